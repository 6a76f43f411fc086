"""A post office beside other services: twistd -noy office.tac"""

from twisted.application.service import Application
from twisted.internet import reactor

from postoffice.config import loader
from postoffice.daemon.build import (build, find_maker)

settings = loader.load("postoffice.yaml", find_maker)

application = Application("postoffice")
build(settings, reactor).setServiceParent(application)
