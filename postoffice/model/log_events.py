"""All events of the log (the table in the manual is made from them)."""

from __future__ import annotations

from postoffice.model.log_event import EVENTS as EVENTS
from postoffice.model.log_event import FIELDS as FIELDS
from postoffice.model.log_event import define

LOGIN = define(
    "login", "info", "id service client tls account device mechanism", "A client has logged in."
)
LOGIN_REFUSED = define(
    "login-refused",
    "info",
    "id service client tls mechanism user",
    "Unknown user or wrong password.  For the app password of a device that may not be used there, "
    "``device-refused`` says why.",
)
LOGIN_DISABLED = define(
    "login-disabled",
    "info",
    "id service client tls mechanism user",
    "The password was right, but the account is disabled: the login was refused.",
)
LOGIN_TIMED_OUT = define(
    "login-timed-out",
    "info",
    "id service client tls",
    "A client that has to log in had not done so ten minutes after the greeting, or was silent for "
    "too long; the session was ended.",
)
VOUCHER_FAILED = define(
    "voucher-failed",
    "warn",
    "user why",
    "A plugin's checker accepted a user who has no account here; the login was refused.",
)
DEVICE_REFUSED = define(
    "device-refused",
    "info",
    "service client account device why",
    "The app password of a device was right, but it may not be used there.",
)
NETWORK_REFUSED = define(
    "network-refused",
    "info",
    "service client account why",
    "The password was right, but this account may not log in from there; the client is told that "
    "it was wrong.",
)
PASSWORD_REHASHED = define(
    "password-rehashed",
    "info",
    "account why",
    "A password was right, and its stored hash (of the scheme that ``why`` names) was replaced by "
    "a new one that is harder to attack.",
)
FIRST_LOGIN = define(
    "first-login",
    "info",
    "account via",
    "The old server (``via``, of ``kind: pop3``) accepted the password of an account that had none "
    "here; it is kept here now, and the old server is not asked about this account again.",
)
FIRST_IMPORT = define(
    "first-import",
    "info",
    "account messages octets",
    "The mail of a user who moved here by a first login was imported from the old server.",
)
FIRST_IMPORT_FAILED = define(
    "first-import-failed",
    "warn",
    "account messages why",
    "The mail of a user who moved here by a first login was not, or not all, imported from the old "
    "server. ``postoffice maildrop import`` goes on with it.",
)
LOGIN_SLOWED = define(
    "login-slowed",
    "info",
    "client user",
    "Too many wrong passwords: this login was refused, and its password was not verified.  The "
    "client may try again later.  ``client`` is the client's network.",
)
REFUSED = define(
    "refused",
    "info",
    "id service client tls account device sender recipient recipients to helo command reply",
    "A command, a login, a recipient or a message was refused: each reply 4yz, 5yz and "
    "``-ERR``.  Of one session, the first 200.",
)
RECIPIENT_FOLLOWED = define(
    "recipient-followed",
    "info",
    "id recipient to",
    "An alias, a forward or a catch-all leads from a recipient to these accounts.",
)
TARGET_REFUSED = define(
    "target-refused",
    "warn",
    "id user recipient why",
    "A target of an alias does not get the message, but others do.  ``user`` is the target.",
)
MESSAGE_DISCARDED = define(
    "message-discarded",
    "info",
    "id sender recipient",
    "An alias discards the mail for this recipient, who is accepted.",
)
MESSAGE_TAKEN = define(
    "message-taken",
    "info",
    "id service client tls account device sender recipients queued to message_id size uidl helo",
    "A message was accepted: it is on the disk, and the client got the reply 250.",
)
MESSAGE_TAKEN_FOR = define(
    "message-taken-for", "info", "id to uidl", "Further recipients of the message with this id."
)
FOREIGN_FROM = define(
    "foreign-from",
    "info",
    "id account author outcome",
    "A user sends as somebody else: an address in the From field does not lead to the account.",
)
SENDING_STOPPED = define(
    "sending-stopped",
    "warn",
    "account device outcome why",
    "A user sends more than is allowed, or to many recipients that other servers refuse: mail is"
    " held or refused.",
)
SENDING_TOLD = define(
    "sending-told",
    "info",
    "account outcome to",
    "The owner of an account and the postmaster (``to``) got a notice: the account is over a limit"
    " (``over``), or held.",
)
MESSAGE_DELETED = define(
    "message-deleted",
    "info",
    "id service client account device uidl",
    "A session has deleted a message: by DELE and QUIT, or because all required devices have "
    "collected it.",
)
MESSAGES_COLLECTED = define(
    "messages-collected",
    "info",
    "id service client account device messages uidls",
    "A session that ended with QUIT has collected these messages (RETR), and did not delete them.  "
    "Where UIDLs go on in further lines, each line has the count of all.",
)
SESSION_ENDED = define(
    "session-ended",
    "info",
    "id service client tls account device helo taken retrieved deleted refused",
    "A client has disconnected.",
)
TAKEN_OVER = define(
    "session-taken-over",
    "info",
    "id service client account device",
    "Another login has taken over the maildrop of a silent session, which ends.",
)
INJECTED = define(
    "injected",
    "warn",
    "id service client command",
    "Octets came together with the command that begins TLS: an attack, or a broken client.  "
    "The session was refused.",
)
TLS_FAILED = define(
    "tls-failed", "info", "id service client why", "The TLS handshake with a client failed."
)
PROXY_REFUSED = define(
    "proxy-refused",
    "warn",
    "id service client why",
    "A trusted load balancer sent no valid PROXY header; the connection was refused.",
)
CONNECTION_REFUSED = define(
    "connection-refused",
    "info",
    "id service client why",
    "A connection was refused before its session began.",
)
SESSION_FAILED = define(
    "session-failed",
    "info",
    "id service client why",
    "A connection ended before its greeting: a balancer was silent or sent half a PROXY header, "
    "or the client went away or had to wait too long while the daemon started.",
)
POLICY_REFUSED = define(
    "policy-refused",
    "info",
    "id service client policy reply",
    "A policy has refused; the line ``refused`` with this id says what.",
)
POLICY_FAILED = define(
    "policy-failed",
    "warn",
    "id service client policy why",
    "A policy failed or timed out; its ``on_failure`` says what happened to the message.",
)
FAILED = define(
    "failed",
    "warn",
    "id service client account why",
    "Something failed; the client got an error, mostly a temporary one.  The reply has the id.",
)
FAULT = define(
    "fault",
    "critical",
    "id service client policy why",
    "A fault in the program; a traceback follows.  The client may try again.",
)
MAIL_REMOVED = define(
    "mail-removed",
    "info",
    "maildrop messages octets uidls why",
    "The post office itself has removed messages from a maildrop: ``expired`` (retention) or "
    "``make-room`` (quota).  Where UIDLs go on in further lines, each line has the counts of all.",
)
VAULT_TRIMMED = define(
    "undelete-trimmed",
    "info",
    "maildrop messages octets",
    "Deleted mail that is kept for undelete exceeded ``store.undelete_size``: so many of the "
    "oldest messages were removed for good.",
)
MAIL_EXPIRED = define(
    "mail-expired",
    "info",
    "account messages octets",
    "The daily expiry removed mail: one line for each account, and at the end one for all.",
)
EXPIRY_FAILED = define(
    "expiry-failed",
    "error",
    "account why",
    "Removing expired mail failed, for one account or for all; the next daily run tries again.",
)
NOT_REMEMBERED = define(
    "collected-not-remembered",
    "warn",
    "account why",
    "Recording which messages were collected failed; these messages are kept longer.",
)
ODD_FILES = define(
    "files-not-served",
    "warn",
    "maildrop messages file why",
    "Files of a maildrop cannot be served: how many, and the first of them; ``postoffice maildrop "
    "verify`` lists all.",
)
QUOTA_PASSED = define(
    "quota-passed",
    "info",
    "maildrop percent",
    "The owner of a maildrop was sent a notice of how full the quota is.",
)
WEB_CHANGE = define(
    "web-change",
    "info",
    "id service client account by what",
    "Somebody has changed something on the web page: ``what``, of which account, and who (``by``).",
)
RELOADED = define(
    "configuration-reloaded",
    "info",
    "opened closed",
    "A reload has succeeded: the new configuration holds for new sessions.",
)
RELOAD_FAILED = define(
    "reload-failed",
    "error",
    "why",
    "A reload has failed: the old configuration stays. There is an event for each problem.",
)

# -- sending ---------------------------------------------------------------
RECIPIENT_SENT = define(
    "sent",
    "info",
    "id tls to via reply times",
    "Another server has taken a message for these recipients.  ``times`` are seconds: in the "
    "queue before the attempt, connecting, sending.",
)
RECIPIENT_DEFERRED = define(
    "deferred",
    "info",
    "id tls to via reply phase times",
    "An attempt to send a message has failed; it is tried again, and its sender is told after "
    "some hours (``outbound.queue.warn``).",
)
RECIPIENT_BOUNCED = define(
    "bounced",
    "info",
    "id tls to via reply phase times",
    "A message cannot be delivered to these recipients; its sender is told, if the sender wants "
    "to know.",
)
RECIPIENT_EXPIRED = define(
    "expired",
    "info",
    "id to via reply phase",
    "A message has waited too long for these recipients (``outbound.queue.lifetime``): it has "
    "expired, and is not tried again.  ``reply`` is that of the last attempt.",
)
MESSAGE_LEFT_QUEUE = define(
    "left-queue",
    "info",
    "id size age",
    "A message has no recipients left: it was removed from the queue, ``age`` seconds after it "
    "came.",
)
QUEUE_NOT_KEPT = define(
    "queue-not-kept",
    "error",
    "id why",
    "The store could not record the outcome of an attempt; this is tried again in a few seconds.  "
    "Nothing is sent twice, unless the daemon is killed meanwhile.",
)
NOT_SIGNED = define(
    "not-signed",
    "error",
    "domain why",
    "The keys that sign mail of a domain (DKIM) cannot be read: mail is sent without a signature.",
)
LETTER_WRITTEN = define(
    "letter-written",
    "info",
    "id sender outcome to uidl",
    "The sender of a message gets a letter about these recipients (``to``): failed, delayed or "
    "relayed (``outcome``).",
)
LETTER_LOST = define(
    "letter-lost",
    "warn",
    "id sender outcome to why",
    "The letter to the sender of a message was discarded: there is no such address, or its mailbox "
    "is full.",
)
DESTINATION_DOWN = define(
    "destination-down",
    "warn",
    "to why",
    "No host of a destination (``to``) can be reached.  All mail for it waits, and it is probed "
    "after 1, 2, 5, 10, and then every 20 minutes.",
)
DESTINATION_UP = define(
    "destination-up", "info", "to", "A destination answers again; all mail for it is sent now."
)
SMARTHOST_LOGIN_REFUSED = define(
    "smarthost-login-refused",
    "error",
    "to reply",
    "A smarthost (``to``, as the configuration names it) refuses our login, or offers none: mend "
    "its ``login`` and ``password_file``, and reload.  All mail for it waits, and is not returned; "
    "the postmaster is told by mail, once a day at most.",
)
POLICY_TESTED = define(
    "policy-tested",
    "warn",
    "to why",
    "A host does not match the MTA-STS policy of its domain (``to``).  The policy is in mode "
    "testing: the mail is sent.",
)
MTA_STS_FAILED = define(
    "mta-sts-failed",
    "warn",
    "to why",
    "Fetching or storing the MTA-STS policy that a domain (``to``) announces failed.  The policy "
    "that is known applies until it expires; without one, mail is sent as to other domains.",
)
TLS_BROKEN = define(
    "tls-broken",
    "warn",
    "via why",
    "The TLS handshake with a server failed, and no policy demands TLS: for three days mail is "
    "sent to it without TLS.",
)
RECIPIENTS_REMOVED = define(
    "removed-from-queue",
    "info",
    "id to",
    "An administrator has removed these recipients of a message from the queue; nobody is told.",
)
