"""All metrics: one table, from which the exposition and the manual are made."""

from __future__ import annotations

from dataclasses import dataclass

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


@dataclass(frozen=True)
class Metric:
    """
    One metric, by Prometheus' conventions: base units, and ``_total`` for counters.

    ``labels`` have few values each: services, mechanisms, results, policies and files as the
    configuration names them; never an address, a client or a domain of others.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


#: All metrics of the office by name, in the order of the manual.
METRICS: dict[str, Metric] = {}


def _define(name: str, kind: str, labels: str, meaning: str) -> str:
    assert name not in METRICS, f"two metrics are called {name}"
    METRICS[name] = Metric(name, kind, tuple(labels.split()), meaning)
    return name


BUILD = _define(
    "postoffice_build_info", GAUGE, "version twisted python", "Always 1; the labels tell versions."
)
READY = _define("postoffice_ready", GAUGE, "", "Whether clients are served, as /ready says it.")
LAG = _define(
    "postoffice_reactor_lag_seconds",
    HISTOGRAM,
    "",
    "How late the reactor ran a timer that is due each second: what every client waited.",
)
CERTIFICATE = _define(
    "postoffice_certificate_not_after_timestamp_seconds",
    GAUGE,
    "file",
    "When a certificate expires (Unix time).",
)
RELOADS = _define(
    "postoffice_reloads_total", COUNTER, "result", "Reloads: reloaded, or failed (each problem)."
)
FAULTS = _define("postoffice_faults_total", COUNTER, "", "Faults in the program; see the log.")
FAILURES = _define(
    "postoffice_failures_total",
    COUNTER,
    "service",
    "What failed for another reason (disk, directory, time), and gave a client an error.",
)

# -- clients -----------------------------------------------------------------
OPEN = _define("postoffice_connections", GAUGE, "service", "Connections that are open.")
LIMIT = _define(
    "postoffice_connections_limit", GAUGE, "", "The most connections at once (limits.connections)."
)
ADMITTED = _define(
    "postoffice_connections_total", COUNTER, "service", "Connections that were accepted."
)
REJECTED = _define(
    "postoffice_connections_refused_total",
    COUNTER,
    "service",
    "Connections that were refused, because there were too many.",
)
SESSIONS = _define(
    "postoffice_sessions_total", COUNTER, "service tls", "Sessions that ended; tls: yes or no."
)
TLS_FAILED = _define(
    "postoffice_tls_failures_total", COUNTER, "service", "TLS handshakes with clients that failed."
)
LOGINS = _define(
    "postoffice_logins_total",
    COUNTER,
    "service mechanism result",
    "Logins: accepted, refused (wrong password) or disabled (the account).",
)
SLOWED = _define(
    "postoffice_logins_slowed_total",
    COUNTER,
    "",
    "Logins that were refused unseen, after too many wrong passwords.",
)
LOGIN_SECONDS = _define(
    "postoffice_login_seconds",
    HISTOGRAM,
    "service",
    "How long the check of a password took, of logins that were accepted.",
)
REPLIES = _define(
    "postoffice_replies_total",
    COUNTER,
    "service class",
    "Replies to clients, by their class (2yz, 3yz, 4yz, 5yz, +OK or -ERR), of sessions that ended.",
)
POLICY_REFUSED = _define(
    "postoffice_policy_refusals_total", COUNTER, "policy", "Refusals by a policy."
)
POLICY_FAILED = _define(
    "postoffice_policy_failures_total", COUNTER, "policy", "Policies that failed or timed out."
)

# -- messages ----------------------------------------------------------------
ACCEPTED = _define(
    "postoffice_messages_accepted_total",
    COUNTER,
    "service",
    "Messages that were accepted: on the disk, with the reply 250.",
)
RECIPIENTS = _define(
    "postoffice_recipients_accepted_total", COUNTER, "service", "Recipients of these messages."
)
SIZES = _define(
    "postoffice_message_size_bytes", HISTOGRAM, "service", "Octets of each accepted message."
)
DELIVERY_SECONDS = _define(
    "postoffice_delivery_seconds",
    HISTOGRAM,
    "service",
    "From the end of a message's text to its reply.",
)
RETRIEVED = _define(
    "postoffice_messages_retrieved_total", COUNTER, "service", "Messages sent to clients (RETR)."
)
DELETED = _define(
    "postoffice_messages_deleted_total", COUNTER, "service", "Messages that sessions deleted."
)

# -- the queue ---------------------------------------------------------------
QUEUE_MESSAGES = _define(
    "postoffice_queue_messages", GAUGE, "", "Messages that wait for other domains."
)
QUEUE_BYTES = _define("postoffice_queue_bytes", GAUGE, "", "Octets of these messages.")
QUEUE_HELD = _define(
    "postoffice_queue_held_messages", GAUGE, "", "Messages in the queue that are held."
)
QUEUE_AGE = _define(
    "postoffice_queue_oldest_age_seconds", GAUGE, "", "Age of the oldest message in the queue."
)
DOWN = _define(
    "postoffice_queue_unreachable_destinations",
    GAUGE,
    "",
    "Destinations of which no host can be reached.",
)
ATTEMPTS = _define(
    "postoffice_queue_recipients_total",
    COUNTER,
    "result",
    "Recipients in other domains by what an attempt gave: sent, deferred, bounced or expired.",
)
QUEUE_SECONDS = _define(
    "postoffice_queue_time_seconds",
    HISTOGRAM,
    "",
    "How long messages were in the queue, until no recipient was left.",
)
LETTERS = _define(
    "postoffice_letters_total",
    COUNTER,
    "about result",
    "Letters to senders by what they say (failed, delayed, …): written, or lost.",
)

# -- the store ---------------------------------------------------------------
BATCHES = _define(
    "postoffice_store_batch_messages",
    HISTOGRAM,
    "",
    "Messages in each batch that was committed with one sync.",
)
BATCH_SECONDS = _define(
    "postoffice_store_batch_seconds", HISTOGRAM, "", "How long the commit of a batch took."
)
WRITTEN = _define(
    "postoffice_store_written_bytes_total", COUNTER, "", "Octets of messages that were committed."
)
BATCHES_FAILED = _define(
    "postoffice_store_batch_failures_total", COUNTER, "", "Batches that failed as a whole."
)
CHECKPOINTS = _define(
    "postoffice_store_checkpoints_total",
    COUNTER,
    "result",
    "Checkpoints of the journal: done or failed.",
)
CHECKPOINTED = _define(
    "postoffice_store_checkpoint_timestamp_seconds",
    GAUGE,
    "",
    "When the last checkpoint of the journal ended (Unix time).",
)
PROCESS_STARTS = _define(
    "postoffice_store_process_starts_total",
    COUNTER,
    "",
    "How often the store process was started; it starts under load, and after it has died.",
)
SIZE = _define("postoffice_store_disk_bytes", GAUGE, "", "Octets of the disk of the store.")
FREE = _define(
    "postoffice_store_free_bytes", GAUGE, "", "Octets that are free on the disk of the store."
)
FREE_FILES = _define(
    "postoffice_store_free_files", GAUGE, "", "Files that can still be made on it (inodes)."
)
#: What is known of the disk, in this order.
DISK = (SIZE, FREE, FREE_FILES)
MAILDROPS = _define(
    "postoffice_store_maildrops", GAUGE, "", "Maildrops, as the daily sweep has counted them."
)
EXPIRED = _define(
    "postoffice_messages_expired_total", COUNTER, "", "Messages that the daily expiry removed."
)
