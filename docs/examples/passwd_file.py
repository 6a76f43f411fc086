"""Make a passwd-file for Dovecot of what `postoffice account export --with-secrets` wrote."""

from __future__ import annotations

import json
import sys

for account in map(json.loads, sys.stdin):
    if account["state"] != "enabled":
        continue
    secret, quota = account.get("hash") or "!", account.get("quota")
    if secret.startswith("$"):
        secret = ("{ARGON2ID}" if secret.startswith("$argon2id$") else "{CRYPT}") + secret
    extra = f"userdb_quota_rule=*:storage={quota}B" if quota else ""
    print(account["address"], secret, "", "", "", "", "", extra, sep=":")
