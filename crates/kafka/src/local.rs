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

/// One broker, which is its own controller.
pub struct LocalKafka {
    broker: Child,
    directory: TempDir,
    jars: PathBuf,
    port: u16,
    secure_port: u16,
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
        let jars = jars()?;
        let directory = tempfile::tempdir().context("cannot create a directory for Kafka")?;
        let (port, controller_port, secure_port) = (free_port()?, free_port()?, free_port()?);
        let properties = directory.path().join("server.properties");
        fs::write(
            &properties,
            server_properties(
                directory.path(),
                port,
                controller_port,
                secure.map(|secure| (secure_port, secure)),
            ),
        )
        .context("cannot write Kafka's server.properties")?;
        format_storage(&jars, &properties, secure)?;
        let broker = start_broker(&jars, directory.path())?;
        let mut kafka = LocalKafka {
            broker,
            directory,
            jars,
            port,
            secure_port,
        };
        kafka.wait_until_it_answers()?;
        Ok(kafka)
    }

    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address of the secure listener, where there is one.
    pub fn secure_brokers(&self) -> String {
        format!("127.0.0.1:{}", self.secure_port)
    }

    pub fn process_id(&self) -> u32 {
        self.broker.id()
    }

    /// Kills the broker without warning, as a power cut would.
    pub fn kill(&mut self) -> Result<()> {
        self.broker.kill().context("cannot kill Kafka")?;
        self.broker
            .wait()
            .map(|_| ())
            .context("cannot wait for Kafka's end")
    }

    /// Starts the broker again, on the same port and data.
    pub fn restart(&mut self) -> Result<()> {
        self.broker = start_broker(&self.jars, self.directory.path())?;
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
            if let Some(status) = self.broker.try_wait().context("cannot look after Kafka")? {
                bail!("Kafka ended at its start ({status}): {}", self.log_end());
            }
            if consumer
                .fetch_metadata(None, Duration::from_millis(500))
                .is_ok_and(|found| !found.brokers().is_empty())
            {
                return Ok(());
            }
            if started.elapsed() > START_TIMEOUT {
                bail!(
                    "Kafka did not answer within {START_TIMEOUT:?}: {}",
                    self.log_end()
                );
            }
        }
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("kafka.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for LocalKafka {
    fn drop(&mut self) {
        let _ = self.broker.kill();
        let _ = self.broker.wait();
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
    Ok(listener.local_addr().context("no port is free")?.port())
}

fn server_properties(
    directory: &Path,
    port: u16,
    controller_port: u16,
    secure: Option<(u16, &Secure)>,
) -> String {
    let data = directory.join("data");
    let (listener, mapped, properties) = match secure {
        None => (String::new(), "", String::new()),
        Some((port, secure)) => (
            format!(",SECURE://127.0.0.1:{port}"),
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
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{listener}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}{listener}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{mapped}\n\
         inter.broker.listener.name=PLAINTEXT\n\
         {properties}\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         auto.create.topics.enable=false\n\
         log.retention.ms=-1\n",
        data.display()
    )
}

fn java(jars: &Path) -> Command {
    let mut java = Command::new("java");
    java.arg("-cp").arg(jars.join("*")).stdin(Stdio::null());
    java
}

fn format_storage(jars: &Path, properties: &Path, secure: Option<&Secure>) -> Result<()> {
    let run = |arguments: &[&str]| -> Result<String> {
        let output = java(jars)
            .arg("kafka.tools.StorageTool")
            .args(arguments)
            .output()
            .context("cannot run java, which runs Apache Kafka; install a JDK 17")?;
        if !output.status.success() {
            bail!(
                "Kafka's storage tool failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let id = run(&["random-uuid"])?;
    let properties = properties
        .to_str()
        .context("the temporary directory's path is no text")?;
    let scram = secure.map(|Secure { user, password, .. }| {
        [
            "--add-scram".to_owned(),
            format!("SCRAM-SHA-256=[name={user},password={password}]"),
        ]
    });
    let scram = scram.iter().flatten().map(String::as_str);
    let format = ["format", "-t", &id, "-c", properties].into_iter().chain(scram);
    run(&format.collect::<Vec<_>>()).map(|_| ())
}

fn start_broker(jars: &Path, directory: &Path) -> Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(directory.join("kafka.log"))
        .context("cannot create Kafka's log file")?;
    let mut command = java(jars);
    command
        .args(["-Xmx1g", "kafka.Kafka"])
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
