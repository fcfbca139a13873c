//! Clients whose machine vanishes without a word.

use std::process::{Child, Command, Stdio};

use crate::support::{Cluster, wait};
use crate::{can_run, skip};

const CLIENTS: usize = 20;

#[test]
fn clients_whose_machine_vanished_make_room_for_others() {
    let test = "clients_whose_machine_vanished_make_room_for_others";
    if !can_run(test, &["ip", "bash"]) {
        return;
    }
    let machine = match Machine::connect() {
        Ok(machine) => machine,
        Err(why) => return skip(test, &why),
    };
    let mut cluster = Cluster::new(1, &["--max-clients", &CLIENTS.to_string(), "--client-keepalive", "1s"]);
    let port = cluster.client_address(1).rsplit_once(':').map(|(_, port)| port.to_owned()).expect("a port");
    let mut arguments = cluster.serve_arguments(1);
    let client = arguments.iter().position(|word| word == "--client").expect("it is given") + 1;
    arguments[client] = format!("0.0.0.0:{port}");
    cluster.start_with(1, &arguments);
    cluster.wait_for_leader();
    let _clients = machine.open_connections(&port);
    wait("all places are taken", || refuses(&cluster).then_some(()));
    machine.vanish();
    wait("there are places again", || (!refuses(&cluster)).then_some(()));
}

fn refuses(cluster: &Cluster) -> bool {
    let answer = cluster.client(1).try_ask(&["PING"]);
    answer.as_deref() != Some("PONG")
}

/// A program with connections. It ends when this is dropped.
struct Clients(Child);

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A machine on a cable of its own: a network namespace. It is gone when this is dropped.
struct Machine {
    name: String,
    cable: String,
    /// The first three numbers of the addresses at both ends.
    network: String,
}

impl Machine {
    fn connect() -> Result<Machine, String> {
        let number = std::process::id();
        let (name, cable) = (format!("paxos-{number}"), format!("paxos{number}"));
        let network = format!("10.{}.{}", 100 + number % 100, number / 100 % 250);
        let machine = Machine { name, cable, network };
        let (ns, host, inner) = (&machine.name, &machine.cable, format!("{}i", machine.cable));
        ip(&["netns", "add", ns])?;
        ip(&["link", "add", host, "type", "veth", "peer", "name", &inner, "netns", ns])?;
        ip(&["addr", "add", &format!("{}.1/24", machine.network), "dev", host])?;
        ip(&["link", "set", host, "up"])?;
        ip(&["-n", ns, "addr", "add", &format!("{}.2/24", machine.network), "dev", &inner])?;
        ip(&["-n", ns, "link", "set", &inner, "up"])?;
        Ok(machine)
    }

    /// Has a program on it open connections and say nothing.
    fn open_connections(&self, port: &str) -> Clients {
        let script = format!(
            "for n in $(seq {CLIENTS}); do exec {{fd}}<>/dev/tcp/{}.1/{port}; done; exec sleep 1000",
            self.network
        );
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "bash", "-c", &script]).stdin(Stdio::null());
        Clients(command.spawn().expect("ip is there"))
    }

    /// Cuts the cable.
    fn vanish(&self) {
        ip(&["-n", &self.name, "link", "set", &format!("{}i", self.cable), "down"]).expect("it was up");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = ip(&["link", "del", &self.cable]);
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).output().map_err(|error| format!("ip: {error}"))?;
    let problem = || format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    if output.status.success() { Ok(()) } else { Err(problem()) }
}
