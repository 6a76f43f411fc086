"""The web page, for owners of maildrops and for administrators."""
