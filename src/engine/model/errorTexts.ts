import { ERRORS, type ErrorCode } from './errors.ts';

interface ErrorText {
  /** What the failure means, and what it changed or did not change. */
  readonly what: string;
  readonly why: string;
  /** Steps of the fix that are too long for a terminal; they follow the fix in `ERRORS`. */
  readonly more?: string;
}

/**
 * Explains every code of `ERRORS` at length, in Markdown. Every command loads `ERRORS` when it starts.
 * Only `feedctl errors` and documentation need these texts, so they have a separate module. `npm run docs`
 * writes `docs/errors.md` from both.
 */
const ERROR_TEXTS: Readonly<Record<ErrorCode, ErrorText>> = {
  BAD_LINE: {
    what:
      'A line of an input file does not have the form that the command expects. The message names the ' +
      'file, the line and the reason. The command checks the whole file before it changes anything.',
    why:
      'The file has other columns, an id that is not a positive whole number, or a time before 2010. It ' +
      'may also be of another kind: `seed graph` reads `follower followee [weight]`, `replay` reads ' +
      '`actor target unix-seconds kind`.',
  },
  BROKER_BLOCKED: {
    what:
      'RabbitMQ accepts no messages. Committed events stay in the outbox and are published when it ' +
      'accepts messages again.',
    why:
      'Its memory or its disk has reached the limit, and it blocks every publisher. Or it has not ' +
      'confirmed a message for 3 s.',
    more: 'More workers make the queues shorter.',
  },
  BROKER_OTHER_CLUSTER: {
    what:
      'The virtual host belongs to another cluster, or a queue has a message of one. Nothing was declared, ' +
      'published or consumed. Roles are not ready.',
    why:
      'Two clusters have the same broker URL, for example from a copied file. Or the database was made ' +
      'again, and the virtual host still belongs to the cluster of the earlier one.',
    more:
      'The message names both ids. `feedctl cluster adopt` drops the messages of the other cluster, so ' +
      'run it only if that cluster is gone. See [RabbitMQ](guides/rabbitmq.md#whose-virtual-host-it-is).',
  },
  BROKER_OTHER_LINEAGE: {
    what:
      'A queue has a message from a history that the database does not know. The message stays in its ' +
      'place, and its queue is not consumed. Roles are not ready.',
    why:
      'The database went back to an earlier state, for example by a restored copy. Or a copy of the ' +
      'database uses the same virtual host.',
    more:
      'After `feedctl cluster adopt` such messages are taken as far as the database confirms them: rows of ' +
      'posts that it has and of authors that the reader follows.',
  },
  BROKER_PLUGIN_MISSING: {
    what: 'RabbitMQ does not know the type of exchange that spreads events over queues.',
    why: 'RabbitMQ ships the plugin `rabbitmq_consistent_hash_exchange`, but it is not enabled.',
    more: 'Then run the command again.',
  },
  BROKER_REFUSED: {
    what: 'RabbitMQ refuses the user, the password, or an action that the user may not perform.',
    why:
      'The user or the password is wrong, or `guest` connects from another machine. The user may also ' +
      'lack a permission in the virtual host, or a limit of connections is reached.',
    more: 'If the message names a permission, grant it with `rabbitmqctl set_permissions`.',
  },
  BROKER_TLS_FAILED: {
    what: 'feedctl could not open an encrypted connection to RabbitMQ.',
    why: 'The port does not speak TLS; or a certificate is not trusted, has expired or is for another name.',
    more:
      'TLS is usually on port 5671. The URL names the files: ' +
      '`amqps://user@host/vhost?cacertfile=/etc/ssl/ca.pem&certfile=...&keyfile=...`.',
  },
  BROKER_TOO_OLD: {
    what: 'RabbitMQ is older than 3.10.',
    why: 'RabbitMQ 3.10 is the first version whose dead letters cannot get lost.',
  },
  BROKER_TOPOLOGY_MISMATCH: {
    what:
      'RabbitMQ has an exchange or a queue with a name that feedctl uses, but with other properties. The ' +
      'message names it.',
    why:
      'Another program, another version of feedctl or a person declared it. The properties of a queue ' +
      'cannot be changed.',
    more: 'Let a queue drain before you delete it. `feedctl migrate` declares it again.',
  },
  BROKER_UNREACHABLE: {
    what: 'RabbitMQ does not answer, or the connection broke. Workers and gateways reconnect by themselves.',
    why: 'RabbitMQ is not running, the URL is wrong, or the network blocks the connection.',
  },
  BROKER_UNROUTABLE: {
    what: 'RabbitMQ has no queue for a message. The message is not lost: it is published again later.',
    why: 'A queue or a binding was deleted, or the number of partitions has just been changed.',
    more: 'Workers declare them too when they publish.',
  },
  BROKER_VHOST_UNKNOWN: {
    what: 'RabbitMQ does not open the virtual host in the URL.',
    why:
      'RabbitMQ has no virtual host of that name. A virtual host that the user may not use is ' +
      '`BROKER_REFUSED`.',
    more:
      '`rabbitmqctl add_vhost <name>` creates it. `rabbitmqctl set_permissions -p <name> <user> ".*" ' +
      '".*" ".*"` gives the user access.',
  },
  BUS_MESSAGE_INVALID: {
    what: 'A message in a queue cannot be read. It is set aside as a dead letter.',
    why:
      'The message was damaged in transit, as its checksum shows. Or a newer version of feedctl, or ' +
      'another program, wrote it.',
    more: 'Posts are not lost: the repair refills the feeds that the message stood for.',
  },
  CACHE_NOT_SHARED: {
    what: 'The cache is in the memory of each gateway, and a command cannot fill it.',
    why: 'Each gateway warms its cache with the feeds that its readers ask for.',
    more: '`FEEDCTL_CACHE_URL` names a Redis too. A shared cache can be warmed.',
  },
  CACHE_REFUSED: {
    what:
      'Redis refuses the user, the password, or a command that feedctl needs. A role that runs goes on ' +
      'without the cache, and connects again until a server takes its writes.',
    why:
      'The password is wrong or missing; or an access list forbids scripts or keys below `feedctl:`. Or ' +
      'the server has become a replica (READONLY), cannot save its data (MISCONF), or has too few replicas ' +
      '(NOREPLICAS). Or the Redis Cluster is down (CLUSTERDOWN) or is moving the slot of the keys (ASK).',
    more:
      'The URL has the form `redis://user:password@host:6379`; a context can hold it too. Allow that ' +
      'user `~feedctl:* +@read +@write +@scripting +info`.',
  },
  CACHE_TLS_FAILED: {
    what: 'feedctl could not open an encrypted connection to Redis.',
    why: 'The port does not speak TLS; or a certificate is not trusted, has expired or is for another name.',
    more:
      'The URL names the files: ' +
      '`rediss://user:password@host:6380?cacertfile=/etc/ssl/ca.pem&certfile=...&keyfile=...`.',
  },
  CACHE_UNREACHABLE: {
    what:
      'Redis does not answer. Workers and gateways start and run without it: feeds are read from the ' +
      'database. They use the cache again when Redis answers.',
    why:
      'Redis is not running or is still loading its data, the URL is wrong, or a firewall blocks the ' +
      'connection. Or no sentinel answers, or no node of the Redis Cluster owns the slot of the keys.',
    more: '`feedctl doctor` checks the cache.',
  },
  CACHE_UNSUITABLE: {
    what: 'The server at the cache’s URL cannot be used.',
    why:
      'The server is older than Redis 6.2, a replica, or not Redis at all. Or the URL begins with the ' +
      'wrong scheme for a sentinel or for a node of a Redis Cluster. Or no sentinel knows the name at ' +
      'its end.',
    more:
      'A node of a Redis Cluster needs `redis+cluster://`, a sentinel `redis+sentinel://host:26379/NAME`. ' +
      'The server has to accept writes. A cache needs no replica: while it is unavailable, feeds are ' +
      'read from the database.',
  },
  CIRCUIT_OPEN: {
    what:
      'A server that feedctl depends on has failed too often. feedctl makes no calls to it for a short ' +
      'time.',
    why:
      'Half of the calls of the last 30 seconds failed, more than one in twenty took over 5 seconds, or ' +
      'ten timed out within a minute. One call probes the server after half a second to ten seconds. All ' +
      'calls resume when it succeeds.',
    more: 'The metric `feedctl_dependency_circuit_state` at `/metrics` shows the state.',
  },
  CITUS_MISSING: {
    what: 'The setting `store` asks for Citus, and the database is plain PostgreSQL.',
    why:
      '`FEEDCTL_STORE` or the context’s `store` is `citus`, and this database does not have the ' +
      'extension.',
    more:
      "Set `shared_preload_libraries = 'citus'` on every node and restart it. Run `create extension " +
      'citus` in this database on every node. Register the nodes with `citus_set_coordinator_host` and ' +
      '`citus_add_node`, then run `feedctl migrate`. Without `store`, feedctl detects the kind of the ' +
      'database.',
  },
  CLOCK_BEHIND: {
    what:
      'No id can be minted, because ids are ordered by time and the next one would be below earlier ones. ' +
      'Nothing was changed. Requests that need an id get 503, and the process is not ready.',
    why:
      'The clock of the database was set back by more than 2 s, or it had been ahead before. Time that a ' +
      'process has used is not used again.',
    more:
      'The message says how long the clock needs to catch up. If it had been hours ahead, posts of ' +
      'that time stay on top of feeds until then.',
  },
  CLOCK_OFF: {
    what:
      'The clock of a machine and the clock of the database differ by more than 5 s. The role on that ' +
      'machine mints no ids and is not ready. Requests that need an id get 503.',
    why:
      'One of the two clocks is wrong. Ids have the time of the database, so a smaller difference changes ' +
      'no feed.',
    more:
      'The message says which one is ahead, and `feedctl_clock_offset_seconds` shows it for each role. If ' +
      'all roles report the same difference, the clock of the database is wrong.',
  },
  CLUSTER_ALREADY_RUNNING: {
    what: 'Another process already runs the cluster of this data directory. `up` did not start a second one.',
    why: 'A data directory belongs to one process at a time. The message names the other process.',
  },
  CLUSTER_DIFFERS: {
    what:
      'The broker or the cache of this process is not the one that the cluster uses. Nothing was changed: ' +
      'messages would reach no worker, and cached feeds would stay as they are.',
    why:
      'The shell or the container lacks FEEDCTL_BROKER_URL or FEEDCTL_CACHE_URL, or names another server. ' +
      'The database records what the roles of the cluster use. A running role is not ready if another ' +
      'role, which started at the same moment, has decided on other servers.',
    more:
      'Commands that only read print a warning instead. To add, replace or remove a broker or a cache, ' +
      'stop all roles. The first role that starts again decides.',
  },
  CLUSTER_NOT_EMPTY: {
    what:
      'A benchmark or the demo was asked to run on a database, a broker or a cache that belongs to a ' +
      'cluster: it has users, a running role, queues or keys.',
    why:
      'These commands fill a cluster with their own users and posts, take all of its work, and empty it ' +
      'at the end.',
    more: 'Without `--database-url`, `--broker-url` and `--cache-url` they need no server.',
  },
  CLUSTER_NOT_RUNNING: {
    what: 'No cluster runs in the data directory, and no database URL is set.',
    why: 'The cluster was never started, was stopped or was killed; or it runs in another directory.',
    more: '`FEEDCTL_DATABASE_URL` names a database too.',
  },
  COMMAND_NOT_FOUND: {
    what: 'feedctl has no such command.',
    why: 'The name is misspelt, or the command belongs to another version.',
    more: '`feedctl TOPIC --help` lists the commands of one topic.',
  },
  CONFIG_INVALID: {
    what: 'A setting has a value that cannot be used. The message names the setting and its source.',
    why:
      'A URL is of another kind or cannot be read, this machine does not have the address, or the ' +
      'context file is not JSON.',
    more: 'The source is a flag, an environment variable or the context file.',
  },
  CONFIRMATION_REQUIRED: {
    what: 'The command destroys data and was not confirmed. Nothing was changed.',
    why: 'The answer was no; or the command cannot ask, because stdin is not a terminal or `--json` is set.',
    more:
      '`--dry-run` shows the effect first. Severe commands need the name of the changed object: `--yes ' +
      '<name>`. A change of a production cluster needs the name of its context: `--context-name <name>`.',
  },
  CONTEXT_EXISTS: {
    what: 'A context of that name exists already. Nothing was changed.',
    why: '`context add` names a context that is in the context file.',
    more: '`--replace` overwrites the old settings with the new ones.',
  },
  CONTEXT_NOT_FOUND: {
    what: 'No context has that name. The message lists the known contexts.',
    why: '`--context` or `FEEDCTL_CONTEXT` names a context that is not in the context file.',
    more: 'The built-in context `local` is the embedded cluster.',
  },
  DATABASE_COPIED: {
    what:
      'The database says that its cluster has its database on another server. Nothing was changed. Roles ' +
      'and commands do not use the copy.',
    why:
      'The database was moved with pg_dump, pg_upgrade or logical replication, or it is a copy of a ' +
      'database that is still in use.',
    more:
      '`feedctl cluster adopt` continues the cluster with this database. `feedctl cluster identify` makes ' +
      'the copy a cluster that shares nothing with the original.',
  },
  DATABASE_ERROR: {
    what:
      'The database refused a statement, and the message repeats its reason. The command was rolled ' +
      'back.',
    why: 'The user lacks rights, the schema is damaged, or feedctl has a fault.',
  },
  DATABASE_NOT_FOUND: {
    what: 'The server answers, but the database does not exist.',
    why: 'The name in the URL is wrong, or the database has not been created yet.',
    more: 'Run `feedctl migrate` after you create it.',
  },
  DATABASE_OTHER_CLUSTER: {
    what:
      'A new session of a running process leads to the database of another cluster. The process does not ' +
      'use it, and is not ready.',
    why: 'A name or an address in the database URL leads to another server than before.',
    more: 'A copied database keeps its cluster’s id until `feedctl cluster identify` gives it another one.',
  },
  DATABASE_POOLED: {
    what:
      'The database answers, but consecutive statements of one connection run in different sessions. ' +
      'Notifications and session locks are lost then, so roles do not start and are not ready.',
    why: 'A connection pooler in transaction or statement mode stands between feedctl and PostgreSQL.',
    more:
      'feedctl opens few connections and keeps them, so a pooler saves nothing. `feedctl doctor` ' +
      'checks the URL again.',
  },
  DATABASE_READ_ONLY: {
    what:
      'The database answers but accepts no writes. Nothing was changed. Roles do not use it, because a ' +
      'standby may show old data.',
    why:
      'The URL leads to a standby, for example during a failover, or `default_transaction_read_only` is on ' +
      'for the server, the database or the user. If the URL names several hosts, none of them accepts ' +
      'writes, or `target_session_attrs` chose one that does not.',
    more: 'Workers and gateways open new sessions by themselves until one can write.',
  },
  DATABASE_REFUSED: {
    what: 'PostgreSQL refuses the login, or refuses a statement that feedctl needs.',
    why:
      'The user or the password is wrong or missing, `pg_hba.conf` has no line for the client’s address, ' +
      'or a grant is missing.',
    more:
      'A context can hold the URL too. The user has to own the database or its schemas, because ' +
      '`migrate` creates tables.',
  },
  DATABASE_TLS_FAILED: {
    what: 'feedctl could not open an encrypted connection to PostgreSQL.',
    why: 'The server has `ssl = off`; or a certificate is not trusted, has expired or is for another name.',
    more:
      'A complete URL is `postgres://user@host/db?sslmode=verify-full&sslrootcert=/etc/ssl/ca.pem`. Add ' +
      '`&sslcert=...&sslkey=...` if the server asks for a client certificate. `sslmode=no-verify` ' +
      'encrypts, but trusts every server.',
  },
  DATABASE_UNREACHABLE: {
    what: 'feedctl could not open a session with the database, or lost one.',
    why:
      'The server is down, starting or full; the host or the port is wrong; or the network blocks the ' +
      'connection.',
    more: 'Then run the command again. Workers and gateways retry by themselves.',
  },
  DATA_DIR_UNUSABLE: {
    what: '`up` cannot write to its data directory, or PostgreSQL cannot enter it.',
    why:
      'A file is in the way, the file system is read-only, or feedctl runs as root. Under root, ' +
      'PostgreSQL runs as another user, who cannot enter `/root`.',
    more: 'Or run feedctl as an ordinary user.',
  },
  DEAD_LETTER_NOT_FOUND: {
    what: 'No dead letter has that id.',
    why: 'The dead letter was replayed or discarded, or the id belongs to another object.',
  },
  DEMO_FAILED: {
    what: 'The demo ran to its end and found a wrong feed or a wrong push.',
    why: 'feedctl has a fault.',
  },
  DISK_FULL: {
    what:
      'A disk has no room: that of the database, that of an embedded cluster, or that of a file which ' +
      'feedctl writes. The message names it. Acknowledged posts are kept.',
    why: 'Feed rows, the log of events or the write-ahead log have filled the disk, or another program has.',
    more:
      'Workers, gateways and `migrate` continue when there is room. `feedctl feed trim --all --before 30d` ' +
      'removes old feed rows; `feedctl doctor` shows the room that is left.',
  },
  DISTRIBUTION_WRONG: {
    what:
      'A table of this Citus database is distributed by a column that does not fit feedctl’s statements. ' +
      'Or it is not colocated with the other tables.',
    why: 'The table was distributed by hand.',
    more:
      "The statement is `select undistribute_table('<table>')`. `feedctl migrate` distributes the table " +
      'again, and its rows stay.',
  },
  EMBEDDED_POSTGRES_FAILED: {
    what: 'The PostgreSQL server that `up` or `demo` starts did not start, or ended by itself.',
    why:
      'feedctl has no PostgreSQL binaries for this machine. The data may also belong to another ' +
      'PostgreSQL version, or a person or a program ended the server.',
    more: 'With `FEEDCTL_DATABASE_URL` feedctl uses your own server instead.',
  },
  FILE_NOT_FOUND: {
    what: 'An input file does not exist.',
    why: 'The path is wrong. A relative path starts at the current directory.',
  },
  FILE_TRUNCATED: {
    what: 'A gzip file ends too early. Nothing was changed.',
    why: 'A download or a copy was interrupted.',
    more: '`gzip -t FILE` checks a file.',
  },
  FILE_UNREADABLE: {
    what: 'An input file exists, but cannot be read.',
    why: 'The path is a directory, the permissions forbid reading, or the gzip data are damaged.',
  },
  FILE_UNWRITABLE: {
    what: 'A file that the command writes at its end cannot be written.',
    why: 'Its directory is missing, the permissions forbid writing, or the path is a directory.',
  },
  GATEWAY_NOT_FOUND: {
    what: 'No gateway of the cluster has this id. Nothing was changed.',
    why:
      'The id belongs to another object or is cut short. Or the gateway has left the cluster: it ' +
      'stopped, or its heartbeat is too old.',
  },
  GATEWAY_OTHER: {
    what:
      'Another gateway answers at the URL of the one that the command means. It refuses the request with ' +
      'HTTP 421. Nothing was changed.',
    why:
      'The gateway has registered a URL that leads elsewhere from this machine, such as 127.0.0.1 or the ' +
      'address of a load balancer. Or the gateway was killed, and another one took its port or rejoined ' +
      'the cluster under another id: the old entry goes within 30 s.',
    more: '`feedctl gateway list` shows the URL of each gateway, and why one is not ready.',
  },
  GATEWAY_UNREACHABLE: {
    what: 'No gateway answers, or the gateway closed the socket.',
    why: 'No gateway runs, `--gateway-url` is wrong, or the gateway was stopped.',
  },
  IDEMPOTENCY_KEY_REUSED: {
    what:
      'The same author used the `Idempotency-Key` of a new post for another text within 24 hours. The ' +
      'gateway answers HTTP 422.',
    why: 'A key stands for one post. A client that sends another post with it has a fault.',
    more: 'Repeat a request with its key when the answer was lost.',
  },
  IMPORT_OVERLAP: {
    what: 'Another file with posts of the same time has been replayed already. Nothing was changed.',
    why:
      'The id of an imported post is made from its time and its place in the file. The ids of the two ' +
      'files would collide.',
    more: 'Or join both into one file before the first replay.',
  },
  INTERNAL: {
    what: 'A failure occurred for which feedctl has no code.',
    why: 'feedctl has a fault.',
  },
  INTERRUPTED: {
    what:
      'A signal stopped the command before it was done. The message says what was changed, and the ' +
      'suggestion whether the same command continues or starts from the beginning.',
    why: 'Ctrl-C or SIGTERM stopped it. An operation saves its progress: `feedctl operation list` shows it.',
  },
  INVALID_CURSOR: {
    what: 'A gateway refused the position from which a WebSocket was to resume.',
    why: '`after` is neither a cursor from a frame nor the id of a post.',
  },
  INVALID_ID: {
    what: 'An id or a cursor is not valid.',
    why: 'An id is a positive whole number of at most 53 bits. This one is negative, 0, too long or a word.',
  },
  INVALID_TOKEN: {
    what: 'The gateway refused a token.',
    why: 'The token is missing, malformed, from another cluster or older than 12 hours.',
  },
  KUBE_AUTOSCALED: {
    what:
      'A HorizontalPodAutoscaler scales the workers, and would immediately undo another number of pods. ' +
      'Nothing was changed.',
    why: 'The deployment is the target of an autoscaler that KEDA did not create, and that cannot be paused.',
    more: 'For example: `feedctl worker scale --min 10 --max 60`. Or delete the autoscaler.',
  },
  KUBE_CONFIG_INVALID: {
    what:
      'feedctl has no access to a Kubernetes cluster: the kubeconfig is missing, or lacks the context ' +
      'that was asked for.',
    why:
      '`KUBECONFIG` names no file and `~/.kube/config` does not exist, `--kube-context` is misspelt, or ' +
      'the pod has no service account token.',
    more: '`kubectl config get-contexts` lists the contexts.',
  },
  KUBE_CONFLICT: {
    what:
      'Fields that the manifests set belong to another field manager. The message names each field and ' +
      'its owner. Nothing was applied.',
    why:
      'A user of another tool, such as `kubectl edit`, changed them. Or `feedctl worker scale --min` ' +
      'did, as the manager `feedctl-operator`.',
    more: 'A field that is not in the manifests stays with its owner.',
  },
  KUBE_FORBIDDEN: {
    what: 'The Kubernetes cluster knows the user, but does not allow the request.',
    why: 'A role or a binding is missing. The message names verb, resource and namespace.',
    more: '`docs/guides/kubernetes.md` has a role for status, scale and restart.',
  },
  KUBE_KIND_UNKNOWN: {
    what: 'The manifests contain objects of a kind that the cluster does not serve. Nothing was applied.',
    why: 'KEDA (`ScaledObject`) or the Prometheus Operator (`ServiceMonitor`) is not installed.',
    more: 'Some overlays, such as `dev`, do not contain that component.',
  },
  KUBE_NAMESPACE_MISSING: {
    what: 'The namespace does not exist, or is being deleted.',
    why: 'The name is misspelt, or the namespace was never created. A file of manifests does not create it.',
    more: 'The overlays `dev` and `prod` contain their namespace, and `feedctl cluster apply` creates it.',
  },
  KUBE_NOT_FOUND: {
    what: 'The namespace does not contain the object that the command is about.',
    why: 'Nothing was applied there yet, or the object is in another namespace.',
    more: '`feedctl cluster status --namespace ...` shows another namespace.',
  },
  KUBE_REFUSED: {
    what:
      'The API server refuses an object: an unknown field, a value out of bounds, or a policy. Nothing ' +
      'was applied.',
    why: 'The message names the object, its place in the manifests, and the server’s reason.',
  },
  KUBE_ROLLOUT_FAILED: {
    what:
      'The applied objects do not become ready: the migration failed, or pods of the new template are ' +
      'not ready in time.',
    why:
      'The message ends with the output of the last pod of the migration. Deployments fail because an ' +
      'image cannot be pulled, a Secret is missing, or a container crashes.',
    more: 'Fix the cause before you apply again. `--timeout` allows more time.',
  },
  KUBE_UNAUTHORIZED: {
    what: 'The Kubernetes cluster does not know the user.',
    why:
      'The token or the certificate in the kubeconfig has expired or is of another cluster. Or the ' +
      'plugin that gets one failed.',
  },
  KUBE_UNREACHABLE: {
    what:
      'The API server of Kubernetes does not answer, or answers with an internal failure. A command that ' +
      'waits keeps asking.',
    why:
      'The server is down or overloaded, the address in the kubeconfig is wrong, a VPN is missing, or ' +
      'another authority signed the server’s certificate.',
    more:
      '`kubectl cluster-info` checks the address. Then run the command again: an apply continues where ' +
      'it stopped.',
  },
  MANIFEST_INVALID: {
    what: 'A manifest cannot be read. The message names file, line and reason. Nothing was changed.',
    why:
      'The text is not YAML, is empty, or holds something that is not an object of Kubernetes. A value ' +
      'such as `yes` or `0644` is refused too, because programs read it differently. A directory and a ' +
      'kustomization are refused, because feedctl does not render them.',
    more: 'Render your own overlay with Kustomize: `kustomize build DIRECTORY | feedctl cluster apply -`.',
  },
  NODE_IN_USE: {
    what: 'A node cannot leave the database: it has shards, or it is the coordinator. It was not changed.',
    why: '`node drain --remove` removes a node only when it is empty.',
  },
  NODE_NOT_FOUND: {
    what: 'Citus knows no node of that name. The message lists the known nodes.',
    why: 'A node has the name that Citus uses in `pg_dist_node`: host:port.',
  },
  NODE_NUMBERS_EXHAUSTED: {
    what: 'No new id can be made at the moment.',
    why:
      'Every process that makes ids leases one of 63 numbers, and all of them are leased. A killed ' +
      'process returns its number after half a minute.',
  },
  NODE_UNREACHABLE: {
    what: 'A server cannot become a node. Nothing was changed.',
    why:
      'The coordinator cannot connect to it under that name, or the server lacks the database or the ' +
      'extension.',
    more: 'The database needs the name that it has on the coordinator. Then run `feedctl node add` again.',
  },
  NOT_DISTRIBUTED: {
    what: 'The `shards` and `node` commands need a database that is spread over nodes, and this one is not.',
    why: 'The database is plain PostgreSQL, or has Citus and was migrated with `FEEDCTL_STORE=postgres`.',
  },
  NOT_LIVE: {
    what: 'A gateway is not ready: its WebSockets do not receive posts as they are made.',
    why:
      'The gateway lost its queue, its registration or its database; or it is closing its sockets as it ' +
      'stops. Before it is ready again, it sends every open socket the posts that the socket missed.',
    more: 'If it lasts, look at the broker and the database (`feedctl status`).',
  },
  OPERATION_CANCELLED: {
    what: 'An operator ended this work with `feedctl operation cancel`. The message names the operator.',
    why: 'The run stopped at its next safe point after the request.',
    more: '`feedctl operation show <id>` shows its progress.',
  },
  OPERATION_INPUT_CHANGED: {
    what: 'A file that the operation reads is missing, or is not the one it began with. Nothing was changed.',
    why: 'A run that continued in the middle of another file would skip some of its lines.',
  },
  OPERATION_NOT_CANCELLABLE: {
    what:
      'The operation has ended, or ending it now would leave work half done. The message names that ' +
      'work.',
    why:
      'A celebrity whose posts are both merged and fanned out, for example, has to leave that state ' +
      'first.',
    more: 'Resume it (`feedctl operation resume`), or do as the message says.',
  },
  OPERATION_NOT_FOUND: {
    what: 'No operation has that number.',
    why: 'The number is of another cluster, or mistyped.',
  },
  OPERATION_NOT_RESUMABLE: {
    what:
      'The operation cannot be resumed: it is done or was cancelled, a later one did the same work, or ' +
      'no command started it.',
    why: 'Only an operation that was interrupted or failed has work left.',
  },
  OPERATION_RUNNING: {
    what: 'Another process is doing the same long work.',
    why: 'Two runs of the same work exclude each other: two replays of one file, for example.',
  },
  OUTPUT_FAILED: {
    what: 'The command could not write its output. What it did before stays done.',
    why: 'The disk of the file that stdout leads to is full, or its device has failed.',
    more: 'A reader that closes a pipe early (`| head -1`) is no error.',
  },
  OVERLOADED: {
    what:
      'Too many calls wait for a server already, so this one was refused and not queued. Nothing was ' +
      'changed.',
    why: 'More calls arrive than the server answers, or slow statements occupy all of its sessions.',
    more: 'Or find out why the server is busy.',
  },
  PORT_TAKEN: {
    what: 'The gateway cannot listen on its port. Nothing was started.',
    why: 'Another program has the port, or it is below 1024 and the user may not use it.',
  },
  POST_EMPTY: {
    what: 'A post has no text.',
    why: 'The text is empty or consists of blanks.',
  },
  POST_NOT_FOUND: {
    what: 'The post does not exist, was deleted, or belongs to another user.',
    why: 'The id is wrong, or the post was deleted.',
  },
  POST_TOO_LONG: {
    what: 'A post has more than 5,000 characters.',
    why: 'The limit holds for every post. A character is a Unicode code point.',
    more: 'Or make several posts.',
  },
  QUEUE_CONSUMED: {
    what: 'The command needs the messages of a queue that workers, or its gateway, are consuming.',
    why:
      'RabbitMQ shows the messages of a queue only to its one consumer. A purge while workers run would ' +
      'remove only some of the messages.',
    more: 'After the look or the purge, run `feedctl fanout resume`.',
  },
  QUEUE_FULL: {
    what:
      'A queue has reached its bound and accepts no more messages. Committed events are not lost: they ' +
      'are queued later.',
    why: 'The cluster receives more posts than its workers can fan out.',
    more: '`feedctl status` shows the queues.',
  },
  RATE_LIMITED: {
    what:
      'More requests, or more wrong passwords, arrived than a gateway allows. The gateway answers HTTP ' +
      '429.',
    why:
      'A user may send 100 requests a minute, 50 of them posts and follows. An address may send 1,000, ' +
      'at most 500 of them without a valid token. Opening a WebSocket is a request. Ten wrong ' +
      'passwords for one account in ten minutes, from any address, block its login: the right ' +
      'password is then refused too. Tokens that are in use stay valid. Behind a proxy that the ' +
      'gateway does not trust, all clients have the proxy’s address.',
    more: '`Retry-After` is in seconds. Name trusted proxies with `--trusted-proxy`.',
  },
  REBALANCE_FAILED: {
    what:
      'Citus gave up on a move after its retries, and the job has ended. Shards that were moved before ' +
      'stay in their new place.',
    why: 'The message contains the database’s reason. `feedctl shards status` shows it for each move.',
    more: 'The command plans the remaining moves.',
  },
  REBALANCE_STOPPED: {
    what:
      'The job that the command followed was stopped. Finished moves stay; the move under way was ' +
      'undone.',
    why: 'An operator ran `feedctl shards rebalance --stop`, or called `citus_rebalance_stop()`.',
  },
  RECORDING_DAMAGED: {
    what:
      'A file is no recording of `top`, or a line in it is damaged. The message names the line. Nothing ' +
      'was changed.',
    why:
      'The file is of another program or of a newer release, or it was edited or damaged. A recording ' +
      'whose end is missing is no error: `top replay` shows what is there.',
  },
  SCHEMA_LOCKED: {
    what:
      'A change of the schema waited too long for a lock. The message names the sessions that hold it. ' +
      'Nothing was changed, and no other statement waited longer than 0.3 s at a time.',
    why:
      'A transaction that has used the table is still open: a long query, a dump, or a client that is ' +
      '`idle in transaction`. On Citus, a move of a shard is such a transaction too.',
    more: '`feedctl migrate --timeout SECONDS` waits longer or shorter.',
  },
  SCHEMA_MISSING: {
    what: 'The database lacks feedctl’s tables, or its newest migrations.',
    why: 'The database is new, or an older version of feedctl made it.',
  },
  SCHEMA_NEWER: {
    what:
      'The database has a migration that this program does not know and cannot work with. It was not ' +
      'changed.',
    why: 'A newer version of feedctl migrated it.',
    more: 'A newer schema that only expands that of this program is no error.',
  },
  SECRET_IN_FLAG: {
    what: 'A URL given as a flag (`--database-url`, `--broker-url`, `--cache-url`) contains a password.',
    why: 'Flags are visible to every user of the machine and stay in the history of the shell.',
  },
  SELF_FOLLOW: {
    what: 'A user cannot follow themselves.',
    why: 'A user’s own posts are in their feed already.',
  },
  SHARDS_BUSY: {
    what:
      'Another command or another client is moving shards already, or the tables are being changed. ' +
      'Nothing was moved.',
    why:
      'Citus moves shards by one job at a time, and not while it makes partitions. The message names the ' +
      'job or the process.',
  },
  SHARDS_UNMOVABLE: {
    what:
      'A requirement for moving shards is not met. The message lists every missing one. Nothing was ' +
      'changed.',
    why:
      'Shards move by logical replication while they are written to. A move needs two nodes that take ' +
      'shards and answer. They need `wal_level = logical`, free background workers, replication slots ' +
      'and WAL senders. Each table needs a primary key or a replica identity.',
    more:
      'The error has one suggestion for each missing requirement, and `feedctl shards plan` shows them ' +
      'too. Settings need a restart of that server.',
  },
  SHARD_NOT_FOUND: {
    what: 'No shard of feedctl’s tables has that id.',
    why:
      'The ids are those of Citus, in `pg_dist_shard`. The id of any one table’s shard names the whole ' +
      'shard.',
  },
  STOP_TIMEOUT: {
    what:
      'The cluster, a worker or a gateway was asked to stop and has not stopped yet. A worker or gateway ' +
      'process ends anyway, 30 seconds after the signal.',
    why:
      'The process is still finishing its work or belongs to another user. Or it waits for a server that ' +
      'does not answer.',
    more:
      '`up` prints the step that it waits for. A worker or gateway that ended this way loses nothing: ' +
      'messages in flight are delivered again.',
  },
  TEXT_INVALID: {
    what: 'A text contains characters that are not text.',
    why: 'A NUL character or half of a Unicode pair is in it, which the database could not return.',
  },
  TIMED_OUT: {
    what:
      'A server did not answer in time, and feedctl stopped waiting. A change may or may not have been ' +
      'made.',
    why: 'A statement waits for a lock, a server or a network hangs, or the load is too high.',
    more: 'Posts and follows are made once, however often they are tried.',
  },
  USAGE: {
    what: 'The command line cannot be understood. The message gives the reason.',
    why:
      'A flag does not exist, an argument is missing or superfluous, a value is out of range, or two ' +
      'flags exclude each other.',
  },
  USER_EXISTS: {
    what: 'A user with this id exists already.',
    why: '`--id` names an id that is taken.',
  },
  USER_NOT_FOUND: {
    what: 'The user does not exist. Nothing was changed.',
    why: 'The id is wrong; or, in a replay, the file names actors who have not been loaded.',
    more: 'Before a replay, load the graph with `feedctl seed graph`.',
  },
  VERSION_CONFLICT: {
    what: 'Another client changed the post in the meantime. Nothing was changed.',
    why: 'The change was meant for an older version of the post.',
  },
  WORKER_NOT_FOUND: {
    what: 'The worker does not exist, or its heartbeat is too old.',
    why: 'The worker has ended, or the id belongs to another object.',
  },
  WRONG_PASSWORD: {
    what: 'The password is not the user’s. The gateway answers HTTP 401.',
    why: 'The password was mistyped, or a command or an import created the user without one.',
    more: 'An operator gets a token for a user without a password with `feedctl user token`.',
  },
};

/** Every error with its texts, in the order of the codes. */
export const explainedErrors = () =>
  (Object.keys(ERRORS).sort() as ErrorCode[]).map((code) => {
    const { exit, fix } = ERRORS[code];
    const { what, why, more } = ERROR_TEXTS[code];
    return { code, exit, what, why, fix: more === undefined ? fix : `${fix} ${more}` };
  });
