//! A real Apache Kafka on this machine: its jars from Maven Central, cached once a user; a broker in a
//! temporary directory on free ports, which ends with the program that started it.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;

const VERSION: &str = "4.4.0";
const POM: &str = include_str!("../../../deploy/kafka/pom.xml");
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// One broker or several, each a controller too.
pub struct LocalKafka {
    nodes: Vec<Node>,
    jars: PathBuf,
}

/// One broker.
struct Node {
    process: Child,
    directory: TempDir,
    ports: Ports,
}

#[derive(Clone, Copy)]
struct Ports {
    plain: u16,
    controller: u16,
    secure: u16,
}

impl Ports {
    fn free() -> Result<Ports> {
        Ok(Ports {
            plain: free_port()?,
            controller: free_port()?,
            secure: free_port()?,
        })
    }
}

/// A listener beside the plain one, with TLS and a user's password (SASL PLAIN and SCRAM-SHA-256).
#[derive(Clone, Debug)]
pub struct Secure {
    /// PEM, with the broker's key and certificate.
    pub keystore: PathBuf,
    pub user: String,
    pub password: String,
}

impl LocalKafka {
    /// Starts a broker and waits until it answers.
    pub fn start() -> Result<LocalKafka> {
        LocalKafka::start_with(None)
    }

    /// Starts a broker that also listens securely.
    pub fn start_with(secure: Option<&Secure>) -> Result<LocalKafka> {
        LocalKafka::start_nodes(1, secure)
    }

    /// Starts three brokers, for topics with as many replicas.
    pub fn start_three() -> Result<LocalKafka> {
        LocalKafka::start_nodes(3, None)
    }

    fn start_nodes(count: usize, secure: Option<&Secure>) -> Result<LocalKafka> {
        let jars = jars()?;
        let ports: Vec<Ports> = (0..count).map(|_| Ports::free()).collect::<Result<_>>()?;
        let mut nodes = Vec::new();
        for number in 0..count {
            let directory = tempfile::tempdir().context("cannot create a directory for Kafka")?;
            let properties = directory.path().join("server.properties");
            fs::write(
                &properties,
                server_properties(directory.path(), number, &ports, secure),
            )
            .context("cannot write Kafka's server.properties")?;
            format_storage(&jars, &properties, secure)?;
            nodes.push(Node {
                process: start_broker(&jars, directory.path(), count)?,
                directory,
                ports: ports[number],
            });
        }
        let mut kafka = LocalKafka { nodes, jars };
        kafka.wait_until_it_answers()?;
        Ok(kafka)
    }

    pub fn brokers(&self) -> String {
        let ports = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.ports.plain));
        ports.collect::<Vec<_>>().join(",")
    }

    /// The address of the secure listener, where there is one.
    pub fn secure_brokers(&self) -> String {
        format!("127.0.0.1:{}", self.nodes[0].ports.secure)
    }

    pub fn process_id(&self) -> u32 {
        self.nodes[0].process.id()
    }

    /// Kills the broker without warning, as a power cut would.
    pub fn kill(&mut self) -> Result<()> {
        self.kill_broker(1)
    }

    /// Starts the broker again, on the same port and data.
    pub fn restart(&mut self) -> Result<()> {
        self.restart_broker(1)
    }

    /// The same for one of several; their ids count from 1.
    pub fn kill_broker(&mut self, id: usize) -> Result<()> {
        let process = &mut self.nodes[id - 1].process;
        process.kill().context("cannot kill Kafka")?;
        process.wait().map(|_| ()).context("cannot wait for Kafka's end")
    }

    pub fn restart_broker(&mut self, id: usize) -> Result<()> {
        let count = self.nodes.len();
        let node = &mut self.nodes[id - 1];
        node.process = start_broker(&self.jars, node.directory.path(), count)?;
        self.wait_until_it_answers()
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.brokers())
            .set("log_level", "2")
            .create()
            .context("cannot create a Kafka client")?;
        let started = Instant::now();
        loop {
            for node in &mut self.nodes {
                if let Some(status) = node.process.try_wait().context("cannot look after Kafka")? {
                    bail!("Kafka ended at its start ({status}): {}", node.log_end());
                }
            }
            if consumer
                .fetch_metadata(None, Duration::from_millis(500))
                .is_ok_and(|found| found.brokers().len() == self.nodes.len())
            {
                return Ok(());
            }
            if started.elapsed() > START_TIMEOUT {
                let ends: Vec<String> = self.nodes.iter().map(Node::log_end).collect();
                bail!(
                    "Kafka did not answer within {START_TIMEOUT:?}: {}",
                    ends.join("\n")
                );
            }
        }
    }
}

impl Node {
    fn log_end(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("kafka.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port of this machine that nobody listens on, for a server that will be started (and perhaps ended and
/// started again) there. It is below those that systems give to outgoing connections (from 32768 on Linux,
/// from 49152 elsewhere): one of them could have it before the server does.
pub fn free_port() -> Result<u16> {
    let port = (0..100)
        .map(|_| fastrand::u16(10_000..32_000))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    port.context("no port of this machine from 10000 to 31999 is free")
}

fn server_properties(directory: &Path, number: usize, all: &[Ports], secure: Option<&Secure>) -> String {
    let data = directory.join("data");
    let Ports {
        plain,
        controller,
        secure: secure_port,
    } = all[number];
    let voters = (1..)
        .zip(all)
        .map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.controller));
    let voters = voters.collect::<Vec<_>>().join(",");
    let (replicas, in_sync) = (all.len(), all.len().div_ceil(2));
    let (listener, mapped, properties) = match secure {
        None => (String::new(), "", String::new()),
        Some(secure) => (
            format!(",SECURE://127.0.0.1:{secure_port}"),
            ",SECURE:SASL_SSL",
            format!(
                "listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256\n\
                 listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
                 required user_{}=\"{}\";\n\
                 listener.name.secure.scram-sha-256.sasl.jaas.config=\
                 org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
                 listener.name.secure.ssl.keystore.type=PEM\n\
                 listener.name.secure.ssl.keystore.location={}\n",
                secure.user,
                secure.password,
                secure.keystore.display(),
            ),
        ),
    };
    format!(
        "process.roles=broker,controller\n\
         node.id={}\n\
         controller.quorum.voters={voters}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller}{listener}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{plain}{listener}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{mapped}\n\
         inter.broker.listener.name=PLAINTEXT\n\
         {properties}\
         log.dirs={}\n\
         default.replication.factor={replicas}\n\
         min.insync.replicas={in_sync}\n\
         offsets.topic.replication.factor={replicas}\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor={replicas}\n\
         transaction.state.log.min.isr={in_sync}\n\
         share.coordinator.state.topic.replication.factor={replicas}\n\
         share.coordinator.state.topic.min.isr={in_sync}\n\
         broker.heartbeat.interval.ms=1000\n\
         broker.session.timeout.ms=4000\n\
         group.initial.rebalance.delay.ms=0\n\
         auto.create.topics.enable=false\n\
         log.retention.ms=-1\n",
        number + 1,
        data.display()
    )
}

fn java(jars: &Path) -> Command {
    let mut java = Command::new("java");
    java.arg("-cp").arg(jars.join("*")).stdin(Stdio::null());
    java
}

/// Any id does, as long as all brokers of a cluster have it.
const CLUSTER: &str = "Y2FtYml1bS1vbi1hLWxhcA";

fn format_storage(jars: &Path, properties: &Path, secure: Option<&Secure>) -> Result<()> {
    let mut format = java(jars);
    format
        .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"])
        .arg(properties);
    if let Some(Secure { user, password, .. }) = secure {
        format.arg("--add-scram");
        format.arg(format!("SCRAM-SHA-256=[name={user},password={password}]"));
    }
    let tried = "cannot run java, which runs Apache Kafka; install a JDK 17";
    let output = format.output().context(tried)?;
    if !output.status.success() {
        bail!(
            "Kafka's storage tool failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Several brokers share what one may have.
fn start_broker(jars: &Path, directory: &Path, brokers: usize) -> Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(directory.join("kafka.log"))
        .context("cannot create Kafka's log file")?;
    let mut command = java(jars);
    command
        .arg(format!("-Xmx{}m", 1024 / brokers))
        .arg("kafka.Kafka")
        .arg(directory.join("server.properties"))
        .stdout(log.try_clone().context("cannot create Kafka's log file")?)
        .stderr(log);
    command
        .spawn()
        .context("cannot run java, which runs Apache Kafka; install a JDK 17")
}

/// The directory of Kafka's jars; fetched by Maven where they are not there.
fn jars() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    let parent = base.join("cambium");
    fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let directory = parent.join(format!("kafka-{VERSION}"));
    let lock = File::create(parent.join("kafka.lock")).context("cannot create a lock in the cache")?;
    lock.lock().context("cannot lock the cache")?;
    if directory.is_dir() {
        return Ok(directory);
    }
    eprintln!("fetching Apache Kafka {VERSION}, 43 MB, once");
    let scratch = tempfile::tempdir_in(&parent).context("cannot create a directory in the cache")?;
    fs::write(scratch.path().join("pom.xml"), POM).context("cannot write to the cache")?;
    let output = Command::new("mvn")
        // Strict checksums: a file that does not match its digest is not used.
        .args([
            "-q",
            "-B",
            "-C",
            "dependency:copy-dependencies",
            "-DoutputDirectory=jars",
        ])
        .current_dir(scratch.path())
        .stdin(Stdio::null())
        .output()
        .context("cannot run mvn, which fetches Apache Kafka; install Maven")?;
    if !output.status.success() {
        bail!(
            "Maven could not fetch Apache Kafka: {}",
            String::from_utf8_lossy(&output.stdout).trim()
        );
    }
    fs::rename(scratch.path().join("jars"), &directory).context("cannot move Kafka's jars into the cache")?;
    Ok(directory)
}
