//! Origins that are killed, or cut off, and come back at the same address.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use larder_e2e::{Scratch, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// A server that can be killed and started again.
#[derive(Debug)]
pub struct Origin {
    command: Vec<String>,
    child: Option<Child>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Socket(PathBuf),
    Port(u16),
}

impl Origin {
    /// nbdkit with a file and filters, running.
    pub fn nbdkit(scratch: &Scratch, image: &Path, arguments: &[&str]) -> Self {
        let socket = scratch.path("origin.socket");
        let mut command = vec!["nbdkit".to_owned(), "--foreground".to_owned()];
        command.push(format!("--unix={}", socket.display()));
        let filters = arguments.iter().filter(|a| a.starts_with("--"));
        command.extend(filters.map(ToString::to_string));
        command.push("file".to_owned());
        command.push(image.display().to_string());
        let parameters = arguments.iter().filter(|a| !a.starts_with("--"));
        command.extend(parameters.map(ToString::to_string));
        Self::started(command, Place::Socket(socket))
    }

    /// qemu-nbd with a file, running. It bears clients that leave while it owes them many replies, of which nbdkit
    /// 1.32 ends at times, with a failed assertion.
    pub fn qemu(scratch: &Scratch, image: &Path) -> Self {
        let socket = scratch.path("origin.socket");
        let (place, image) = (socket.display().to_string(), image.display().to_string());
        let command = "qemu-nbd --format=raw --persistent --shared=0 --socket";
        let words = command.split(' ').chain([&*place, &*image]);
        Self::started(words.map(str::to_owned).collect(), Place::Socket(socket))
    }

    /// nginx with the files of a directory, running, on a port that was free.
    pub fn nginx(scratch: &Scratch, directory: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("its number").port();
        drop(free);
        let prefix = scratch.make_dir("nginx");
        let configuration = format!(
            "daemon off; master_process off; pid nginx.pid; events {{}}
            http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy;
            fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            server {{ listen 127.0.0.1:{port}; root {}; }} }}",
            directory.display()
        );
        fs::write(prefix.join("nginx.conf"), configuration).expect("nginx's configuration");
        let text = |path: &Path| path.display().to_string();
        let command = vec![
            "/usr/sbin/nginx".to_owned(),
            "-p".to_owned(),
            text(&prefix),
            "-c".to_owned(),
            text(&prefix.join("nginx.conf")),
            "-e".to_owned(),
            text(&prefix.join("error.log")),
        ];
        Self::started(command, Place::Port(port))
    }

    fn started(command: Vec<String>, place: Place) -> Self {
        let mut origin = Self {
            command,
            child: None,
            place,
        };
        origin.start();
        origin
    }

    /// Its address, with the name of a file where it has files.
    pub fn address(&self, file: &str) -> String {
        match &self.place {
            Place::Socket(path) => format!("nbd+unix:///?socket={}", path.display()),
            Place::Port(port) => format!("http://127.0.0.1:{port}/{file}"),
        }
    }

    /// Where an NBD server listens.
    pub fn socket(&self) -> &Path {
        match &self.place {
            Place::Socket(path) => path,
            Place::Port(port) => panic!("it listens on port {port}"),
        }
    }

    /// Starts it, and waits until it serves.
    pub fn start(&mut self) {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).stdin(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn();
        self.child = Some(child.unwrap_or_else(|e| {
            panic!(
                "cannot run {command:?}: {e} (Debian packages nbdkit, qemu-utils and nginx-light)"
            )
        }));
        wait_until("the origin serves", || match &self.place {
            Place::Socket(path) => UnixStream::connect(path).is_ok(),
            Place::Port(port) => TcpStream::connect(("127.0.0.1", *port)).is_ok(),
        });
    }

    /// Cuts it off: its connections stay open and nothing is answered, until [`Origin::go_on`].
    pub fn stall(&self) {
        self.send(Signal::STOP);
        // A thread that runs just then may go on for a moment.
        wait_until("all its threads are stopped", || {
            self.states().iter().all(|state| *state == 'T')
        });
    }

    /// The states of its threads, as ps(1) shows them.
    fn states(&self) -> Vec<char> {
        let id = self.child.as_ref().expect("it runs").id();
        let threads = fs::read_dir(format!("/proc/{id}/task")).expect("its threads");
        let state = |stat: String| stat.rsplit_once(") ")?.1.chars().next();
        threads
            .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok())
            .filter_map(state)
            .collect()
    }

    /// Lets it answer again.
    pub fn go_on(&self) {
        self.send(Signal::CONT);
    }

    fn send(&self, signal: Signal) {
        let id = self.child.as_ref().expect("it runs").id();
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("sending a signal");
    }

    /// Kills it, with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("SIGKILL");
            child.wait().expect("its status");
        }
        if let Place::Socket(path) = &self.place {
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.kill();
    }
}
