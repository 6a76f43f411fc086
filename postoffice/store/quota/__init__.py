"""Quotas of maildrops: counted, checked, enforced; and notices to their owners."""
