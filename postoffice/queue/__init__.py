"""The queue: messages for other servers, their schedule, and the destinations."""
