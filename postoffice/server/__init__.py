"""Everything on a transport: connections, TLS, logins, and the avatars that serve them."""
