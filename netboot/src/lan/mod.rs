//! How DHCP is heard and answered on the store LAN: [`ears`] chooses between a UDP socket and a packet socket,
//! [`packet_socket`] opens the latter.

pub mod ears;
pub mod packet_socket;
