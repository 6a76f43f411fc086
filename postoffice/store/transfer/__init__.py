"""Import from other servers, and export: mail in Maildirs and mboxes that are not ours."""
