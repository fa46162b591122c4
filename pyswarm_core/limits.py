"""Every bound and every default that is not part of a spec, with its reason. PURE.

Everything in the system is bounded by a limit of this file; the simulator checks that none is
exceeded.
"""

from pyswarm_core.clock import HOUR, MILLISECOND, MINUTE, SECOND

PROTOCOL = 9
"""The protocol between agents and controllers; raised when the meaning of a message changes. 1:
every version before the number was sent; 3: an agent accepts assignments in parts; 4: an agent
knows frozen tasks; 5: an agent changes the limits of running containers and makes checks; 6: an
agent has a certificate; 7: an agent keeps the writable layers of containers; 8: it mounts volumes;
9: it sends and receives copies of volumes, expands templates, and has secrets and configs.
"""
PROTOCOL_OLDEST = 6
"""The oldest protocol that is still supported: others cannot authenticate."""
LAYERS_PROTOCOL = 7
"""Agents before this protocol get no task of a container."""
VOLUMES_PROTOCOL = 8
"""Agents before this protocol get no task with mounts: they would start it without its data."""
TEMPLATES_PROTOCOL = PAYLOADS_PROTOCOL = 9
"""Agents before this protocol get no task with templates, secrets or configs."""

CHUNK_SLOTS = 128
"""Slots per stored chunk: the smallest write amplification at the same load time."""

CHUNK_BYTES_MAX = 512 * 1024
"""An encoded chunk; details are cut until it fits. 128 slots of at most HISTORY_MAX +
UNFINISHED_MAX + 1 tasks are 223 kB of columns, 102 kB of restarts and 197 kB of cut details.
"""

VALUE_BYTES_MAX = 1 << 20
"""An encoded value; a larger one is never sent. Every kind of object has a bound below it."""

TXN_BYTES_MAX = 1_200_000
"""Keys and values of one store transaction: room for the largest value, and within etcd's default
of 1.5 MiB for a request with its encoding.
"""

TXN_PUTS = 64
"""Puts per store transaction.

etcd allows 128 operations and every put carries a compare of the leader key.
"""

TXN_IN_FLIGHT = 4
"""Concurrent transactions; more gains nothing."""

DECISION_COST = 1_200
"""The cost of one decision, its application included, before it yields, in units of about 10 us."""
SLOT_COST = 1
"""One slot that is examined individually."""
WRITE_COST = 3
"""One task that is written or deleted."""
PLACING_COST = 50
"""A search of all nodes for the tasks of one service: half a millisecond with 10,000 nodes."""
SLOTS_SCANNED_PER_COST = 64
"""Slots of a service that are scanned to choose one of them."""

DECISIONS_PER_TURN = 20
"""Decisions that are saved together, which costs less per decision."""

EVICTIONS = 10_000
"""Tasks on nodes that may run nothing, found by one decision (2 ms); the next finds more."""

BOUND_LEAST = 256
"""The least number of tasks of a global service that a decision creates: finding their nodes costs
as much.
"""
SURPLUS_CHOSEN = 5_000
"""Surplus replicas chosen at once; several decisions remove them."""

DECISION_NETWORKS = 200
"""Networks whose blocks one decision releases."""

DECISION_FITS = 1_000_000
"""Comparisons of one waiting service with one node in a decision: some nanoseconds each."""

SLICE_TASKS = 2_000
"""Tasks that one slice of a request examines before it yields (about 5 ms)."""

SLICE_OBJECTS = 100
"""Objects that one slice of a request puts into the state (20 to 100 us each)."""

SLICE_BYTES = 64 * 1024
"""Bytes that one slice converts to messages before it yields (5 to 10 ms)."""
SLICE_OBJECT_BYTES = 512
"""The least size of an object in SLICE_BYTES: small ones cost more than their bytes."""

TOLD_AT_ONCE = 16
"""Event streams and watches that are written in one pass of the event loop (about 60 us each)."""

LIST_MAX = 100_000
"""Objects of one list; a longer list is refused."""
REFS_MAX = 1_000
"""Names, ids and prefixes of one request."""

WATCH_PAUSE = 50 * MILLISECOND
"""A watched service is evaluated again at the earliest this long after its last evaluation, times
the slices of that one: watches take at most a tenth of the leader's time.
"""

STATUS_FLUSH_PERIOD = 500 * MILLISECOND
"""The longest delay before observed state is written to the store."""

STATUS_BYTES_PER_SECOND = 2 * 1024 * 1024
"""Average rate of writes that follow from agents' reports; above it reports coalesce."""
STATUS_BYTES_BURST = 8 * 1024 * 1024
"""The burst above that rate after a quiet time."""
STATUS_DELAY_MAX = 500 * MILLISECOND
"""The longest delay, at any write rate, of decisions that follow from reports."""

COMPACT_PERIOD = 30 * SECOND
"""Period at which the leader compacts the store's history."""
COMPACT_BYTES = 64 * 1024 * 1024
"""Bytes written after which it compacts sooner."""

LEADER_TTL = 2 * SECOND
"""The leader's lease: etcd's smallest useful one, for a takeover within three seconds."""
LEADER_TTL_MAX = 16 * SECOND
"""The lease of a leader whose store is slow: each term that ends because the store did not answer
in time is followed by one with a lease twice as long.
"""
LEADER_TTL_MEMORY = 10 * MINUTE
"""A term that lasted this long shows that its lease was long enough: doubling begins anew."""

LOOP_SILENCE_MAX = 10 * SECOND
"""A leader stops renewing its lease when its event loop has not run for this long. Longer than any
known pause (a full garbage collection, a stalled disk).
"""

CONTROLLER_PERIOD = 5 * SECOND
CONTROLLER_TTL = 15 * SECOND
"""Period at which a controller renews its registration, and the registration's lifetime."""
CONTROLLERS_MAX = 16
"""Controllers that agents receive and store."""

CONTROL_ADDRESSES_MAX = 1_024
"""Addresses of a controller's host, as agents close them to tasks."""
METRICS_ADDRS_MAX = 16
"""Addresses at which an agent serves its metrics, as it reports them."""
LISTENING_TTL = HOUR
"""How long the addresses of a controller that has ended stay closed to tasks."""
CONTROL_PERIOD = 5 * SECOND
"""Period at which the leader compares where the control plane listens with what agents were sent,
and agents resolve the names of controllers and registries.
"""

HEARTBEATS_MISSED = 3
"""A host whose echoes are filtered is down after this many heartbeat periods without a message."""

AGENT_GRACE = 15 * SECOND
"""A silent agent whose host answers probes is down after this long (as in Swarm)."""

PROBE_WINDOW_MIN = 200 * MILLISECOND
"""The least time for a host to answer a probe: a hundred round trips of a local network."""
PROBERS = 2
"""Agents that probe a silent host in addition to the leader."""
PROBED_AT_ONCE = 256
"""Hosts probed at once: nine echoes each within a window."""
ECHOES_PER_WINDOW = 3
"""Echoes that each prober sends to one host: two may be lost."""
ECHOES_AT_ONCE = 1_024
"""Hosts that one process may probe at once."""
CALIBRATIONS_AT_ONCE = 16
CALIBRATION_PAUSE = 250 * MILLISECOND
"""Hosts that are calibrated at once, and the pause in between, while the fleet is healthy: 64 a
second.
"""
DOWN_PER_MINUTE_MIN = 3
DOWN_PER_MINUTE_SHARE = 10
"""While more nodes are silent at once, the leader declares at most so many nodes, or one in so
many, down per minute: a partition or an overloaded controller is more likely than so many dead
hosts. Nodes without tasks do not count.
"""

HEARTBEATS_PER_SECOND = 2_000
"""Heartbeats of the whole fleet; the heartbeat period is stretched to stay below this."""

HEARTBEAT_PERIOD_MAX = 10 * SECOND

LEADER_GRACE = 10 * SECOND
"""The time a new leader gives every node to reconnect before it may be declared down."""

HELLOS_PER_SECOND = 250
"""Sessions opened per second when a whole fleet reconnects; extends the grace by that time."""

ORPHAN_AFTER = 24 * HOUR
"""The tasks of a down node are orphaned after this long (Swarm's default)."""

AUTO_REMOVE_SHOWN = 5 * SECOND
"""The end of a container that removes itself is shown for this long, to those who wait for it."""
RESTART_BACKOFF_RESET = 10 * MINUTE
"""After a task that ran this long the restart delay begins anew (as in Kubernetes)."""
RESTART_PERIOD_MIN = 1 * SECOND
"""With a shorter restart delay, a task that ended is replaced this long after its creation at the
earliest: a task that fails at once costs a decision, a commit and a container per second.
"""
SERVE_DEADLINE = 600 * SECOND
"""An update that got no further for this long counts new tasks as failed that run and do not serve
(progressDeadlineSeconds of Kubernetes).
"""
CRASH_LOOP_RESTARTS = 3
"""As many failures in a row, none after a run of RESTART_BACKOFF_RESET, are a crash loop."""

FAILURES_OF_A_WAIT = 3
"""A wait for a service ends with an error once the tasks of one slot ended this often since the
change: with the default restart delay of 5 s after about 15 s.
"""
FAILURES_WAITED_FOR = MINUTE
"""With a longer restart delay the wait ends with the last failure within this time."""

PENDING_SHOWN = 20
"""Tasks of one service that are stored while they wait for a node: as many as `service create`
shows one by one. Further waiting replicas are a number, and become tasks when a node can run them.
"""

EXPLAIN_PERIOD = 10 * SECOND
"""The shortest time between two messages of a waiting task."""
EXPLAINED_PER_SECOND = 20
"""Waiting services whose messages are updated in a second while nodes change: a hundredth of the
leader's time with 10,000 nodes.
"""

RESTARTS_REMEMBERED = 100
"""Restarts of a slot whose times are kept to count those within a window; eight bytes each."""

HISTORY_MAX = 20
"""Ended tasks kept per slot at most, whatever the cluster spec says: 57 bytes each without text."""

TEXTS_PER_SLOT = 2
"""The newest ended tasks of a slot, whose message and error are kept whole."""

UNFINISHED_MAX = 8
"""Tasks of a slot whose desired state is shutdown or remove and that have not ended, at most.
Beyond it those on down nodes count as orphaned, and the slot gets no new task until others have
ended.
"""

FAILURE_SLOTS = 2_000
"""Slots of one service whose history is searched for failures, those of the newest tasks first."""
FAILURES_PENALISED = 5
FAILURE_WINDOW = 300 * SECOND
"""A node on which tasks of a service failed this often within the window ranks last for it
(swarmkit's scheduler).
"""

PREVIOUS_SPECS = 10
"""Specs kept per service, as many as Kubernetes keeps; fewer if they do not fit into its value."""

REPLICAS_MAX = 100_000
SERVICES_MAX = 10_000
NODES_MAX = 20_000
NETWORKS_MAX = 5_000
VOLUMES_MAX = 100_000
NAME_LENGTH_MAX = 63
"""A service name is a DNS label (RFC 1035)."""

SPEC_BYTES_MAX = 256 * 1024
"""A spec in a request. Stored it may take twice that, as every short text costs some bytes."""

NODE_BYTES_MAX = 64 * 1024
"""A stored node description; its labels are most of it."""

NETWORK_BYTES_MAX = 256 * 1024
"""A stored network without its blocks."""

NETWORK_BLOCKS_MAX = 28_000
"""Blocks of one network, of at most 26 stored bytes each: with NETWORK_BYTES_MAX within
VALUE_BYTES_MAX. A network on all of NODES_MAX has as many and more.
"""

BLOCK_PREFIX = 26
"""A node's block of an overlay: 64 addresses, 61 for tasks."""

NETWORK_WAIT_MAX = 60 * SECOND
"""A task is rejected when its host's kernel has not applied the assignment after this long."""
PULL_STALL_MAX = 15 * MINUTE
"""A task waits this long for a pull without progress, its own or the ones before it."""
CREATION_MAX = 2 * MINUTE
"""A container's namespace and root must be ready this long after image and networks are."""
FAULT_AFTER = 3
"""Consecutive failed syncs of a host's network, a second apart, before it is reported."""
FAULT_KEPT = 5 * MINUTE
"""A fault of a network without tasks on the host is reported for this long: nothing retries it (as
FAILURE_WINDOW).
"""
FAULTS_MAX = 16
FAULT_LENGTH_MAX = 256
"""Faults that a host reports, and characters of each."""

BRIDGE_PORTS = 1_023
"""Tasks of one network on one host: a Linux bridge has no more ports (BR_MAX_PORTS)."""

NODE_TASKS_MAX = 1_000
"""Default of the tasks that an agent accepts: few enough for its heartbeats, and tasks without a
network share one bridge.
"""
NODE_TASKS_LIMIT = 100_000
"""The highest value of that setting."""
NODE_TASK_BYTES = 4 * 1024 * 1024
"""Memory per task that an agent accepts: about ten times what an idle container and its monitor
take, for the kernel's share and for the container's processes.
"""
NODE_TASK_PIDS = 32
"""Process ids per task that an agent accepts."""
NODE_TASK_FILES = 8
"""Open files per task that an agent accepts: twice what it holds for a task on a network."""

VNI_MIN = 4096
VNI_MAX = 2**24 - 1
"""RFC 7348 gives the VNI 24 bits; Swarm starts at 4096."""

NODE_CPUS_MAX = 65_536
NODE_MEMORY_MAX = 2**48
"""CPUs, and bytes of memory, that a host may report and a spec may contain: several times those of
any machine. The sum over NODES_MAX hosts, and the runtime's sum of memory and swap, are int64s.
"""
ENGINE_LABELS_MAX = 128
ENGINE_LABELS_BYTES_MAX = 16 * 1024
LACKS_MAX = 16
"""Labels of a host's agent, the size of their keys and values together, and missing capabilities
that it reports: a stored node stays small.
"""

ADDRESSES6_MAX = 16
"""IPv6 addresses of a host that other hosts receive."""

ENCRYPTION_KEY_PERIOD = 12 * HOUR
"""A key of encrypted networks is replaced after this long (as in Swarm)."""
ENCRYPTION_KEY_PERIOD_MIN = 10 * MINUTE
"""The least age of a key before it is replaced, even if too many packets used it: a host that is
cut off from the controllers for less has the newest.
"""
ENCRYPTION_KEYS_KEPT = 3
"""The newest key and those that hosts may still use (as in Swarm)."""

STATUSES_PER_MESSAGE = 1_000
"""Task statuses per message, and statuses that are processed before others run (5 to 20 ms)."""
STATUSES_MAX = 2 * NODE_TASKS_LIMIT
"""Statuses accepted in one message: an old agent sends all at once, ended tasks too."""
ASSIGNMENT_QUEUE = 64
"""Messages other than assignments that wait for one slow agent."""
ASSIGNMENT_BYTES = 256 * 1024
"""The size of one part of an assignment, about; also the work before others run (5 ms)."""
ASSIGNMENT_TASK_BYTES = 128
"""The size of a task in that; a template counts SLICE_OBJECT_BYTES plus its own size."""
ASSIGNMENT_PARTS = 4_096
"""Parts of one assignment that an agent accepts: 1 GiB."""
OVERLAY_SLICE = 1_000
"""Peers of networks that are encoded before others run (2 to 4 ms)."""
OVERLAY_BYTES_KEPT = 256 * 1024 * 1024
"""Encoded peers of networks, 35 bytes each, shared by all nodes; what exceeds that is encoded for
each node. A thousand networks of a thousand nodes each have 35 MB.
"""
ASSIGNMENT_CHANGES = 1_000
"""Changed tasks kept for one slow agent; beyond it the agent gets the full set."""
ENDPOINT_PERIOD = 50 * MILLISECOND
"""Period at which nodes receive changed endpoints."""
ENDPOINT_SLICE = 10_000
"""Slots of services examined for endpoints before others run, and for reports in each period."""
ENDPOINT_LEAST = 50
"""The cost of each service and each endpoint in addition to its slots."""
ENDPOINT_CHANGES = 4_096
"""Changed endpoints kept for all slow agents; an agent that missed more gets the full set."""
BARRIER_MAX = 30 * SECOND
"""A task that left the endpoint sets is stopped after at most this long, even if some node has not
acknowledged them. Longer than AGENT_GRACE: a node whose agent hangs is down before, and a slow one
loses no connection.
"""
REQUESTS_PER_CALLER = 200
"""Concurrent requests of one host, or of the controller's own socket."""
REQUESTS_MAX = 1_000
"""Concurrent requests of all users."""
STREAMS_PER_CALLER = 500
"""Watches, event streams, logs and pulls of one caller; each costs memory and little time."""
STREAMS_MAX = 2_000
"""Streams of all users."""
RECEIVED_PER_CALLER = 16
RECEIVED_MAX = 256
"""Requests of one caller, and of all, that are received at once, of TUNNEL_FRAME_BYTES each; those
of one caller wait for each other.
"""
CONNECTIONS_MAX = 30_000
"""Connections to one address of a controller: NODES_MAX, and half as many of users and guests."""
STREAMS_PER_CONNECTION = 1_024
"""More calls than one caller may have: gRPC lets further ones wait without an error."""
METADATA_BYTES_MAX = 8 * 1024
"""Of a call; a token has 110 bytes."""
HANDSHAKE_MAX = 5 * SECOND
CONNECTION_IDLE_MAX = MINUTE
"""The time for TLS and HTTP/2 (clients give up after 2 s), and between two calls."""
STRANGERS_PER_CALLER = 500
"""Calls of one host (with IPv6: of one /64) for agents that have not shown a valid token or tunnel
yet; as many joins with a valid token may wait. A fleet behind one address translation is one host:
its agents get in within seconds, as a call takes milliseconds and a refused agent connects again.
"""
STRANGERS_MAX = 2_000
"""Those calls of all hosts. When all places are taken, a new call replaces the oldest one of the
host with most.
"""
REQUESTS_WAITING = 1_000
"""Concurrent changes of users; further ones are refused."""
EVENTS_KEPT = 10_000
"""Events of the fleet, in the store too: about 2 MB."""
EVENTS_ALIKE = 16
"""Containers of a service with an event each in one report; more have a single one."""
EVENT_PAGE = 100
"""Events under one key of the store; a divisor of EVENTS_KEPT."""
EVENTS_PER_MESSAGE = 64
"""Events in one message, and events compared with a stream's filters in one slice."""
TUNNEL_FRAME_BYTES = 4 * 1024 * 1024
"""The largest message that a controller accepts, from anybody: gRPC has one limit for all calls."""
IMAGES_PER_NODE_MAX = 10_000
"""Images that one host may list."""
TUNNELS_MAX = 2_000
"""Streams to agents that one leader keeps open at once; one caller has a quarter of them."""
STATS_PERIOD_MIN = 100 * MILLISECOND
"""The shortest period of samples of containers: those of a thousand take a fifth of a second."""
STATS_NODES_MAX = 256
"""Nodes of one stream of stats: as many as of one reader of logs."""
RESOLVES_AT_ONCE = 32
"""Images whose digests one controller looks up at once; more wait, and are deployed without one."""
RESOLVERS_ASKED = 3
"""Agents that are asked for one digest: not every host reaches every registry."""
EXEC_OUTPUT_MAX = 4_096
"""Bytes kept of the output of a command in a container; Docker keeps as many of a health check."""

HEALTH_INTERVAL = 30 * SECOND
HEALTH_TIMEOUT = 30 * SECOND
HEALTH_START_INTERVAL = 5 * SECOND
HEALTH_RETRIES = 3
"""Docker's defaults of a health check; that of its start period is 0."""
READY_START_PERIOD = 8_760 * HOUR
READY_START_INTERVAL = SECOND
"""A readiness check is made every second until it succeeds for the first time, so that an update
does not wait a whole interval for each task.
"""
CHECK_RESULTS = 5
"""Results of a check that are kept (as in Docker)."""
CHECKS_AT_ONCE = 64
"""Commands of checks that run at once on one host: one that hangs takes 2 MB."""
CONNECTIONS_AT_ONCE = 512
"""Connections of checks that are open at once on one host: each takes a file descriptor, of those
that NODE_TASK_FILES leaves free.
"""
DRAIN_MAX = 2 * SECOND
"""A task that its agent stops by itself gets its stop signal this long after it left the backends:
as long as Swarm waits before every stop.
"""

DETAIL_LENGTH_MAX = 512
"""Bytes (of UTF-8) kept of a task's message and of its error."""
DETAIL_LENGTH_OLD = 64
"""The same of ended tasks beyond TEXTS_PER_SLOT."""
ADDRESSES_PER_TASK = 18
"""A spec's networks (16), the ingress network and the host's own."""
PORTS_PER_TASK = 16
"""Ports of a task in mode host whose chosen numbers are kept for display."""

NAMES_FORWARDED_PER_TASK = 64
"""DNS queries of one task that are forwarded at once; more fail immediately."""
NAMES_FORWARDED_AT_ONCE = 512
"""Forwarded queries of all tasks of a host: each holds a socket."""
NAMES_CONNECTIONS_PER_TASK = 16
"""TCP connections to one task's resolver; it closes further ones."""

REQUEST_BYTES_MAX = 2 * SPEC_BYTES_MAX
"""The request of a user or a joining host; a larger one is not decoded."""
GRPC_MESSAGE_BYTES = 64 * 1024 * 1024
"""The largest message that a controller sends; a full sync of one node is far smaller. A controller
accepts TUNNEL_FRAME_BYTES.
"""

API_PORT = 2377
"""Swarm's port for the control plane."""
CONTROLLER_METRICS_PORT = 9323
"""Docker's metrics port."""
AGENT_METRICS_PORT = 9324
CONTROLLER_HEALTH_PORT = 9325
AGENT_HEALTH_PORT = 9326

HTTP_CONNECTIONS = 16
"""Connections to a daemon's metrics or health at once; a further one ends the oldest."""
HTTP_TIMEOUT = 10 * SECOND
"""A connection to metrics or health ends after this long, whatever it does."""
HTTP_REQUEST_BYTES = 16 * 1024
"""Bytes of a request for metrics or health that are read."""
