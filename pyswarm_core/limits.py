"""Every bound and every default that is not part of a spec, with where it comes from. PURE.

Nothing in the system grows without a limit from this file; the simulator checks that none is
exceeded.
"""

from pyswarm_core.clock import HOUR, MILLISECOND, MINUTE, SECOND

PROTOCOL = 4
"""Of what agents and controllers say to each other; raised when a message's meaning changes. 1 is
all that came before it was told; 3 takes assignments in parts; 4 knows frozen tasks.
"""
PROTOCOL_PARTS = 3
"""Older agents are sent their assignments as one message, however large it is."""
PROTOCOL_FREEZES = 4
"""Older agents are told of a frozen task that it should run."""
PROTOCOL_OLDEST = 1
"""The oldest that is still understood."""

CHUNK_SLOTS = 128
"""Slots per stored chunk: smallest write amplification at the same load time."""

CHUNK_BYTES_MAX = 512 * 1024
"""An encoded chunk: details are cut until it fits. 128 slots of at most HISTORY_MAX +
UNFINISHED_MAX + 1 tasks are 212 kB of columns, 102 kB of restarts and 195 kB of cut details.
"""

VALUE_BYTES_MAX = 1 << 20
"""An encoded value; what is larger is never sent. Every kind of object has a bound below it."""

TXN_BYTES_MAX = 1_200_000
"""Keys and values of one store transaction: room for the largest value, and within etcd's default
of 1.5 MiB for a request with its encoding.
"""

TXN_PUTS = 64
"""Puts per store transaction.

etcd allows 128 operations and every put carries a compare of the leader key.
"""

TXN_IN_FLIGHT = 4
"""Transactions under way at once; more gains nothing."""

DECISION_COST = 1_200
"""What one decision does before others run, in units of about 10 us, applying it included."""
SLOT_COST = 1
"""A slot that is looked at by itself."""
WRITE_COST = 3
"""A task that is written or deleted."""
PLACING_COST = 50
"""Looking at all nodes for the tasks of one service: half a millisecond with 10,000 nodes."""
SLOTS_SCANNED_PER_COST = 64
"""Slots of a service that are glanced at, when one of all of them is chosen."""

DECISIONS_PER_TURN = 20
"""Decisions that are saved together: what is saved at once costs less."""

EVICTIONS = 10_000
"""Tasks on nodes that may run nothing that one decision looks for (2 ms); more are for the next."""

BOUND_LEAST = 256
"""Tasks of a global service that a decision makes at least: finding its nodes costs as much."""
SURPLUS_CHOSEN = 5_000
"""Replicas to give up that are chosen at once; several decisions give them up."""

DECISION_NETWORKS = 200
"""Networks whose blocks one decision takes back."""

DECISION_FITS = 1_000_000
"""Comparisons of one waiting service with one node in a decision: some nanoseconds each."""

SLICE_TASKS = 2_000
"""Tasks that one slice of a request looks at before others run (about 5 ms)."""

SLICE_BYTES = 64 * 1024
"""Bytes that one slice turns into messages before others run (5 to 10 ms)."""
SLICE_OBJECT_BYTES = 512
"""What an object counts at least towards SLICE_BYTES: small ones cost more than their bytes."""

TOLD_AT_ONCE = 16
"""Followers of events and watchers that are written to in one pass of the event loop (about 60 us
each).
"""

LIST_MAX = 100_000
"""Objects of one list; who asks for more is told to narrow it."""
REFS_MAX = 1_000
"""Names, ids and prefixes of one request."""

WATCH_PAUSE = 50 * MILLISECOND
"""A watched service is looked at again at the earliest this long after its last look, once for each
slice of that: watching takes at most a tenth of the leader's time.
"""

STATUS_FLUSH_PERIOD = 500 * MILLISECOND
"""Observed state reaches the store at most this late."""

STATUS_BYTES_PER_SECOND = 2 * 1024 * 1024
"""What is written because of agents' reports, on average: a storm of them coalesces."""
STATUS_BYTES_BURST = 8 * 1024 * 1024
"""And at once after a calm."""
STATUS_DELAY_MAX = 500 * MILLISECOND
"""However much was written, decisions that follow from reports wait no longer than this for it."""

COMPACT_PERIOD = 30 * SECOND
"""How often the leader compacts the store's history."""
COMPACT_BYTES = 64 * 1024 * 1024
"""And sooner when it has written this much."""

LEADER_TTL = 2 * SECOND
"""The leader's lease. etcd's smallest useful one; keeps takeover within three seconds."""

LOOP_SILENCE_MAX = 10 * SECOND
"""A leader whose event loop shows no sign of life for this long stops renewing its lease. Longer
than any known pause (a full garbage collection, a stalled disk).
"""

CONTROLLER_PERIOD = 5 * SECOND
CONTROLLER_TTL = 15 * SECOND
"""A controller says so often that it lives, and is forgotten when it has not for so long."""
CONTROLLERS_MAX = 16
"""Controllers that agents are told of, and remember."""

HEARTBEATS_MISSED = 3
"""A host whose echoes are filtered is down after this many periods without a sign of life."""

AGENT_GRACE = 15 * SECOND
"""A silent agent whose host answers probes is down after this long (Swarm's verdict)."""

PROBE_WINDOW_MIN = 200 * MILLISECOND
"""A host has at least this long to answer a probe: a hundred round trips of a local network."""
PROBERS = 2
"""Agents that probe a silent host beside the leader."""
PROBED_AT_ONCE = 256
"""Hosts probed at once: nine echoes each within a window."""
ECHOES_PER_WINDOW = 3
"""Sent to one host by each prober: two may be lost."""
ECHOES_AT_ONCE = 1_024
"""Hosts that one process may be asking."""
CALIBRATIONS_AT_ONCE = 16
CALIBRATION_PAUSE = 250 * MILLISECOND
"""While the fleet is healthy, so many hosts are asked for an echo in so long: 64 a second."""
DOWN_PER_MINUTE_MIN = 3
DOWN_PER_MINUTE_SHARE = 10
"""While more are silent at once, at most so many nodes, or one in so many, are called down per
minute: it is more likely a partition or an overloaded controller than so many dead hosts.
"""

HEARTBEATS_PER_SECOND = 2_000
"""The heartbeat period is stretched so that the fleet sends no more than this."""

HEARTBEAT_PERIOD_MAX = 10 * SECOND

LEADER_GRACE = 10 * SECOND
"""A new leader gives every node this long to reconnect before it may be called down."""

HELLOS_PER_SECOND = 250
"""Sessions opened per second when a whole fleet comes back; the grace is longer by that time."""

ORPHAN_AFTER = 24 * HOUR
"""A down node's tasks become orphaned after this long (Swarm's default)."""

UPDATE_MONITOR = 5 * SECOND
"""A new template has proven itself when a task made from it has run this long (Swarm's monitor)."""

FAILURES_OF_A_WAIT = 3
"""A wait for a service ends with an error once one slot's tasks ended this often since the change:
with the default restart delay of 5 s after about 15 s.
"""
FAILURES_WAITED_FOR = MINUTE
"""With a restart delay that makes that longer, it ends with the last failure within this time."""

PENDING_SHOWN = 20
"""Tasks of one service that are stored while they wait for a node: as many as `service create`
shows one by one. Further replicas that wait are a number, and become tasks when a node can take
them.
"""

EXPLAIN_PERIOD = 10 * SECOND
"""A waiting task's message is rewritten at most this often."""
EXPLAINED_PER_SECOND = 20
"""Waiting services whose messages are brought up to date in a second while nodes change: a
hundredth of the leader's time with 10,000 nodes.
"""

RESTARTS_REMEMBERED = 100
"""Restarts of a slot whose times are kept, to count those within a window; eight bytes each."""

HISTORY_MAX = 20
"""Ended tasks kept per slot at most, whatever the fleet's settings say: 57 bytes each without text.
"""

TEXTS_PER_SLOT = 2
"""Ended tasks of a slot, the newest, whose message and error are kept whole."""

UNFINISHED_MAX = 8
"""Tasks of a slot that should end and have not, at most. Past that those on nodes that are down
count as orphaned, and the slot gets no further task until others have ended.
"""

FAILURE_SLOTS = 2_000
"""Slots of one service whose history is searched for failures, those that got one last first."""
FAILURES_PENALISED = 5
FAILURE_WINDOW = 300 * SECOND
"""A node on which a service failed this often within the window ranks last for it (swarmkit's
scheduler).
"""

PREVIOUS_SPECS = 10
"""Specs kept per service, as many as Kubernetes keeps revisions; fewer where they do not fit into
the service's value.
"""

REPLICAS_MAX = 100_000
SERVICES_MAX = 10_000
NODES_MAX = 20_000
NETWORKS_MAX = 5_000
NAME_LENGTH_MAX = 63
"""A service name is a DNS label (RFC 1035)."""

SPEC_BYTES_MAX = 256 * 1024
"""A spec as users send it. Stored it may have twice that, as every short text costs some bytes."""

NODE_BYTES_MAX = 64 * 1024
"""What a host may say of itself, stored: its labels above all."""

NETWORK_BYTES_MAX = 256 * 1024
"""A stored network without its blocks."""

NETWORK_BLOCKS_MAX = 28_000
"""Blocks of one network, of at most 26 stored bytes each: with NETWORK_BYTES_MAX within
VALUE_BYTES_MAX. A network on all of NODES_MAX has as many and more.
"""

BLOCK_PREFIX = 26
"""A node's block of an overlay: 64 addresses, 61 for tasks."""

NETWORK_WAIT_MAX = 60 * SECOND
"""A task waits so long for its host's kernel to follow what was assigned; then it is rejected."""
PULL_STALL_MAX = 15 * MINUTE
"""A task waits so long for a pull that shows no progress, its own or the ones before it."""
CREATION_MAX = 2 * MINUTE
"""So long a container's namespace and root may take to make once image and networks are there."""
FAULT_AFTER = 3
"""Syncs of a host's network that fail one after the other, a second apart, before it is told."""
FAULT_KEPT = 5 * MINUTE
"""A fault of a network that left its host is told for so long: without its tasks nobody tries it
again (as FAILURE_WINDOW).
"""
FAULTS_MAX = 16
FAULT_LENGTH_MAX = 256
"""Faults that a host tells of, and characters of each."""

BRIDGE_PORTS = 1_023
"""Tasks of one network on one host: Linux's bridges have no more ports (BR_MAX_PORTS)."""

NODE_TASKS_MAX = 1_000
"""Tasks that an agent accepts unless it is told otherwise: few enough for its heartbeats, and those
without a network share one bridge.
"""
NODE_TASKS_LIMIT = 100_000
"""The most that it can be told."""
NODE_TASK_BYTES = 4 * 1024 * 1024
"""Memory that an agent counts per task it accepts: about ten times what an idle container and its
monitor take, for what the kernel keeps of it and for what runs in it.
"""
NODE_TASK_PIDS = 32
"""Process numbers that an agent counts per task it accepts."""
NODE_TASK_FILES = 8
"""Open files that it counts per task: twice what it holds of a task on a network."""

VNI_MIN = 4096
VNI_MAX = 2**24 - 1
"""RFC 7348 gives the VNI 24 bits; Swarm starts at 4096."""

NODE_CPUS_MAX = 65_536
NODE_MEMORY_MAX = 2**48
"""CPUs, and bytes of memory, that a host may report: several times what any machine has, and summed
over NODES_MAX hosts still an int64.
"""
ENGINE_LABELS_MAX = 128
ENGINE_LABELS_BYTES_MAX = 16 * 1024
LACKS_MAX = 16
"""Labels of a host's agent, their keys and values together, and capabilities that it reports: a
stored node stays small.
"""

ADDRESSES6_MAX = 16
"""A host's own of IPv6 that others are told of."""

ENCRYPTION_KEY_PERIOD = 12 * HOUR
"""A key of encrypted networks is replaced after this long (Swarm's)."""
ENCRYPTION_KEY_PERIOD_MIN = 10 * MINUTE
"""So long one is kept even if it is sent with too much: a host that is cut off from the controllers
for less has the newest.
"""
ENCRYPTION_KEYS_KEPT = 3
"""The newest and those that hosts may still use (Swarm's)."""

STATUSES_PER_MESSAGE = 1_000
"""Of tasks; and so many are taken in before others run (5 to 20 ms)."""
STATUSES_MAX = 2 * NODE_TASKS_LIMIT
"""Statuses of one message that are taken: an old agent says all at once, ended tasks too."""
ASSIGNMENT_QUEUE = 64
"""Messages other than assignments that wait for one slow agent."""
ASSIGNMENT_BYTES = 256 * 1024
"""Of one part of what a node is told, about; and what is made of it before others run (5 ms)."""
ASSIGNMENT_TASK_BYTES = 128
"""A task counts for this many of them, and each template for SLICE_OBJECT_BYTES beside its own."""
ASSIGNMENT_PARTS = 4_096
"""Parts of one assignment that an agent takes: 1 GiB."""
OVERLAY_SLICE = 1_000
"""Peers of networks that are put into bytes before others run (2 to 4 ms)."""
OVERLAY_BYTES_KEPT = 256 * 1024 * 1024
"""Of networks' peers, 35 each, made once for all nodes; what exceeds that is made for each node. A
thousand networks of a thousand nodes each have 35 MB.
"""
ASSIGNMENT_CHANGES = 1_000
"""Changed tasks remembered for one slow agent; past that it gets the full set."""
ENDPOINT_PERIOD = 50 * MILLISECOND
"""Nodes are told of changed endpoints at most this late, and at most this often."""
ENDPOINT_SLICE = 10_000
"""Slots of services that are looked at for endpoints before others run (about 5 ms), and because of
agents' reports in each ENDPOINT_PERIOD: at most a tenth of the leader's time.
"""
ENDPOINT_LEAST = 50
"""Slots that each service, and each endpoint, counts for beside its own."""
ENDPOINT_CHANGES = 4_096
"""Changed endpoints remembered for all slow agents; who missed more gets the full set."""
BARRIER_MAX = 10 * SECOND
"""A task that left the endpoint sets is stopped at most this late, whoever has yet to acknowledge
them (Docker's grace period of a stop; Swarm sleeps 2 s before every stop and hopes).
"""
REQUESTS_PER_CALLER = 200
"""Requests of one host, or of the controller's own socket, that are under way at once."""
REQUESTS_MAX = 1_000
"""Of all users."""
STREAMS_PER_CALLER = 500
"""Watches, followed events and logs, pulls of one caller; each costs memory, hardly any time."""
STREAMS_MAX = 2_000
"""Of all users."""
STRANGERS_PER_CALLER = 500
"""Calls of one host (with IPv6: of one /64) for agents that have not shown a valid token or tunnel
yet; as many joins with a valid token may wait. A fleet behind one address translation is one host:
10,000 agents that dial at once get in within seconds, as each counts for milliseconds and dials
again when it was refused.
"""
STRANGERS_MAX = 2_000
"""Of all hosts. When all places are taken, a newcomer takes the oldest of the host with most."""
REQUESTS_WAITING = 1_000
"""Changes that users wait for at once; more are refused."""
EVENTS_KEPT = 4_096
EVENTS_TOLD = 64
"""In one message, and held against a follower's filters in one slice."""
TUNNEL_FRAME_BYTES = 16 * 1024 * 1024
"""One frame of a tunnel: 500 log lines of 16 KiB, with their times, are half of it."""
IMAGES_PER_NODE_MAX = 10_000
"""Images that one host may list."""
TUNNELS_MAX = 1_000
"""Streams to agents that one leader keeps open at once."""
RESOLVES_AT_ONCE = 32
"""Images whose digests one controller has looked up at once; more wait, and are made without."""
RESOLVERS_ASKED = 3
"""Agents that are asked for one digest: not every host reaches every registry."""
EXEC_OUTPUT_MAX = 4_096
"""Bytes kept of what a command in a container writes; Docker keeps as many of a health check."""

DETAIL_LENGTH_MAX = 512
"""Bytes (of UTF-8) kept of a task's message and of its error."""
DETAIL_LENGTH_OLD = 64
"""The same of ended tasks that are not among TEXTS_PER_SLOT."""
ADDRESSES_PER_TASK = 18
"""A spec's networks (16), the routing mesh's and the host's own."""
PORTS_PER_TASK = 16
"""Chosen ports of a task that are kept, for people."""

NAMES_FORWARDED_PER_TASK = 64
"""Questions of one task that other name servers are asked at once; more fail at once."""
NAMES_FORWARDED_AT_ONCE = 512
"""Of all tasks of a host: each holds a socket."""
NAMES_CONNECTIONS_PER_TASK = 16
"""TCP connections to one task's resolver; it closes further ones."""

REQUEST_BYTES_MAX = 2 * SPEC_BYTES_MAX
"""A user's or a joining host's request; what is larger is not decoded."""
GRPC_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest message that a controller sends; a full sync of one node is far smaller. It accepts
TUNNEL_FRAME_BYTES.
"""

API_PORT = 2377
"""Swarm's port for the control plane."""
CONTROLLER_METRICS_PORT = 9323
"""Docker's metrics port."""
AGENT_METRICS_PORT = 9324
