"""The journal of the Maildir store: what is committed is durable here before it is applied."""
