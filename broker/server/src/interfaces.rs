//! The addresses of this machine: where a server that listens on all of them can be reached.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

/// All addresses of all interfaces, those of one interface together, in the system's order.
///
/// # Errors
/// The system does not tell them.
fn addresses() -> io::Result<Vec<IpAddr>> {
    let mut interfaces = if_addrs::get_if_addrs()?;
    interfaces.sort_by_key(|interface| interface.index);
    let addresses = interfaces.iter().map(if_addrs::Interface::ip);
    Ok(addresses.collect())
}

/// Addresses at which other machines can reach this one, private ranges included: what clients are
/// told by a server that listens on all interfaces (`server/server.go`, `getNonLocalIPsIfHostIsIPAny`).
///
/// # Errors
/// The system does not tell its addresses.
pub(crate) fn global_unicast_addresses() -> io::Result<Vec<IpAddr>> {
    let addresses = addresses()?.into_iter();
    Ok(addresses.filter(is_global_unicast).collect())
}

/// Where a socket that is bound to `bound` can be reached: all addresses of its family, with the port,
/// when it is bound to none in particular. A socket of IPv6 takes IPv4 too.
///
/// # Errors
/// The system does not tell its addresses.
pub(crate) fn reachable_at(bound: SocketAddr) -> io::Result<Vec<SocketAddr>> {
    if !bound.ip().is_unspecified() {
        return Ok(vec![bound]);
    }
    let served = |address: &IpAddr| bound.is_ipv6() || address.is_ipv4();
    let addresses = addresses()?.into_iter().filter(served);
    Ok(addresses
        .map(|address| SocketAddr::new(address, bound.port()))
        .collect())
}

/// Go's `IP.IsGlobalUnicast`: about the kind of address, not about who routes it.
fn is_global_unicast(address: &IpAddr) -> bool {
    let narrow = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(narrow || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_others_can_use_are_told_to_clients() {
        let global = |text: &str| is_global_unicast(&text.parse().unwrap());
        for address in [
            "10.0.0.1",
            "192.168.3.4",
            "8.8.8.8",
            "fd00::2",
            "2001:db8::1",
        ] {
            assert!(global(address), "{address}");
        }
        for address in [
            "0.0.0.0",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!global(address), "{address}");
        }
        let told = global_unicast_addresses().unwrap();
        assert!(told.iter().all(is_global_unicast), "{told:?}");
    }

    #[test]
    fn a_socket_on_all_interfaces_is_reachable_at_the_loopback_address_among_others() {
        let at = reachable_at("0.0.0.0:4222".parse().unwrap()).unwrap();
        assert!(at.contains(&"127.0.0.1:4222".parse().unwrap()), "{at:?}");
        assert!(at.iter().all(SocketAddr::is_ipv4), "{at:?}");
        let both = reachable_at("[::]:4222".parse().unwrap()).unwrap();
        assert!(at.iter().all(|address| both.contains(address)), "{both:?}");
    }

    #[test]
    fn a_socket_on_one_address_is_reachable_there_only() {
        let bound = "10.1.2.3:4222".parse().unwrap();
        assert_eq!(reachable_at(bound).unwrap(), [bound]);
    }
}
