"""DNS: names of services and tasks, answered to every task on its own loopback."""
