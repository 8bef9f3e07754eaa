//! TCP: every address that a host resolves to.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use larder::Log;
use larder_frontend::report::{one_line, reason};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::{BACKLOG, Host, ListenAddress, Listener};

/// Free ports that are tried when any will do: one that is free on the first address may be taken
/// on the next.
const PORTS_TO_TRY: usize = 16;

/// Listens on every address of `host`. With port 0 all get the same free one. An address that this machine does not have is a warning
/// while one remains.
pub(super) fn listen(host: &str, port: u16, log: &dyn Log) -> Result<Vec<Listener>, String> {
    let shown = ListenAddress::Tcp {
        host: host.to_owned(),
        port,
    };
    let failed = |error: &io::Error| one_line(&format!("listen={shown}: {}", reason(error)));
    let addresses = resolve(host, port).map_err(|error| failed(&error))?;
    let mut found = listen_on_all(host, &addresses);
    for _ in 1..PORTS_TO_TRY {
        match &found {
            Err(error) if port == 0 && error.kind() == io::ErrorKind::AddrInUse => {
                found = listen_on_all(host, &addresses);
            }
            _ => break,
        }
    }
    let (listeners, missing) = found.map_err(|error| failed(&error))?;
    for (address, error) in missing.iter().filter(|(one, _)| is_missed(host, one)) {
        let (address, reason) = (address.ip(), reason(error));
        log.warning(&format!("listen={shown}: not on {address}: {reason}"));
    }
    Ok(listeners)
}

/// Whether anybody would miss an address. Where IPv6 is off, `localhost` may have one of it all the same.
fn is_missed(host: &str, address: &SocketAddr) -> bool {
    !(host == "localhost" && address.is_ipv6())
}

fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in (host, port).to_socket_addrs()? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(io::Error::other("the host has no address"));
    }
    Ok(addresses)
}

/// Sockets, and addresses that this machine does not have. There is at least one of the former.
type Found = (Vec<Listener>, Vec<(SocketAddr, io::Error)>);

fn listen_on_all(host: &str, addresses: &[SocketAddr]) -> io::Result<Found> {
    let mut listeners = Vec::new();
    let mut missing = Vec::new();
    let mut port = None;
    for address in addresses {
        let mut address = *address;
        if let Some(port) = port {
            address.set_port(port);
        }
        match listen_on(&address) {
            Ok(listener) => {
                port = Some(listener.local_addr()?.port());
                listeners.push(Listener::Tcp(listener, host_in_uri(host, &address)));
            }
            Err(error) if is_missing(&error) => missing.push((address, error)),
            Err(error) => return Err(error),
        }
    }
    match missing.pop() {
        Some((_, error)) if listeners.is_empty() => Err(error),
        last => {
            missing.extend(last);
            Ok((listeners, missing))
        }
    }
}

fn is_missing(error: &io::Error) -> bool {
    [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A name stays the name that was typed: certificates know it.
fn host_in_uri(host: &str, address: &SocketAddr) -> Host {
    // Nothing but an IPv6 address has a colon.
    if host.parse::<std::net::Ipv4Addr>().is_ok() || host.contains(':') {
        Host::of(address)
    } else {
        Host(host.to_owned())
    }
}

fn listen_on(address: &SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(*address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Connections of a server that has just ended do not keep its port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // IPv4 has sockets of its own, so that both can be bound to one port.
        socket.set_only_v6(true)?;
    }
    socket.bind(&(*address).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Console;

    fn listen(host: &str, port: u16) -> Result<Vec<Listener>, String> {
        super::listen(host, port, &Console::new(false))
    }

    #[test]
    fn an_address_that_this_machine_does_not_have_is_told_but_for_one_of_localhost() {
        let addresses = ["127.0.0.1:0", "192.0.2.1:0"].map(|text| text.parse().unwrap());
        let (listeners, missing) = listen_on_all("host", &addresses).unwrap();
        assert_eq!((listeners.len(), missing.len()), (1, 1));
        let (address, error) = &missing[0];
        assert_eq!(address.ip().to_string(), "192.0.2.1");
        assert!(is_missing(error) && is_missed("host", address));
        let own: SocketAddr = "[::1]:1".parse().unwrap();
        assert!(!is_missed("localhost", &own) && is_missed("::1", &own));
    }

    #[test]
    fn an_ipv6_address_is_in_brackets_in_a_uri_with_its_link() {
        for (text, number, shown) in [
            ("::1", 0, "[::1]"),
            ("fe80::1%eth0", 3, "[fe80::1%253]"),
            ("::", 0, "localhost"),
        ] {
            let ip = text.split('%').next().unwrap().parse().unwrap();
            let address = std::net::SocketAddrV6::new(ip, 1, 0, number);
            assert_eq!(host_in_uri(text, &address.into()).to_string(), shown);
        }
        let name = host_in_uri("name", &"[::1]:1".parse().unwrap());
        assert_eq!(name.to_string(), "name");
    }

    #[test]
    fn any_free_port_is_the_same_on_all_addresses() {
        let listeners = listen("localhost", 0).unwrap();
        let places: Vec<_> = listeners.iter().map(|one| one.place().unwrap()).collect();
        assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
    }

    #[test]
    fn a_port_in_use_is_told_with_the_address() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(
            listen("127.0.0.1", port).unwrap_err(),
            format!("listen=tcp:127.0.0.1:{port}: Address already in use")
        );
    }

    #[test]
    fn a_host_that_is_not_there_is_told() {
        let told = listen("no-such-host.invalid", 1).unwrap_err();
        assert!(
            told.starts_with("listen=tcp:no-such-host.invalid:1: "),
            "{told}"
        );
        let told = listen("192.0.2.1", 0).unwrap_err();
        assert!(told.contains("Cannot assign requested address"), "{told}");
    }

    #[test]
    fn every_address_is_localhost_in_a_uri() {
        for (host, shown) in [("0.0.0.0", "localhost"), ("127.0.0.1", "127.0.0.1")] {
            let listeners = listen(host, 0).unwrap();
            let Some(super::super::Place::Tcp(host, port)) = listeners[0].place() else {
                panic!("no place");
            };
            assert_eq!(host, Host(shown.to_owned()));
            assert_ne!(port, 0);
        }
    }
}
