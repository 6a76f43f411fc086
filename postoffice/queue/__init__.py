"""The queue: sends messages to other servers, and tries them again."""
