use super::*;
use crate::proto::dhcp::samples::{GUID, MAC, Sample};
use dhcproto::v4::{self, DhcpOption, OptionCode};
use dhcproto::{Decodable, Decoder};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 50);

struct Fixed {
    ruling: Ruling,
    guid_known: bool,
}

impl Policy for Fixed {
    fn ruling(&self, _: Mac, starts: Starts) -> Ruling {
        match (&self.ruling, starts) {
            (Ruling::Boot(_), Starts::NetworkLoader) => Ruling::Boot("undionly.kpxe".into()),
            (Ruling::Boot(_), Starts::Uki(Arch::Arm64)) => Ruling::Boot("k8s-arm.efi".into()),
            (Ruling::Boot(_), Starts::UkiByIpxe(_)) => Ruling::Boot("k8s-worker-efi.ipxe".into()),
            (Ruling::Boot(_), Starts::Script) => Ruling::Boot("k8s-worker.ipxe".into()),
            (ruling, _) => ruling.clone(),
        }
    }
    fn by_guid(&self, guid: &[u8; 16]) -> Option<Mac> {
        (self.guid_known && *guid == GUID).then_some(Mac(MAC))
    }
}

fn boots() -> Fixed {
    Fixed { ruling: Ruling::Boot("k8s-worker.efi".into()), guid_known: true }
}

fn arrival(port: Port) -> Arrival<'static> {
    let source = match port {
        Port::Dhcp => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        Port::Proxy => SocketAddrV4::new(CLIENT, 4011),
    };
    Arrival { port, server: SERVER, base_url: "http://10.77.0.2", source, neighbour: None }
}

fn ask(sample: &Sample, port: Port, policy: &dyn Policy) -> Outcome {
    answer(&Packet::read(&sample.bytes()).unwrap(), &arrival(port), policy)
}

/// The reply as an independent reader sees it.
fn reply(outcome: Outcome) -> (v4::Message, SocketAddrV4, Kind) {
    let Decision::Reply { bytes, destination: Destination::Ip(destination), kind, .. } = outcome.decision else {
        panic!("{outcome:?}")
    };
    assert!(bytes.len() >= 300);
    (v4::Message::decode(&mut Decoder::new(&bytes)).unwrap(), destination, kind)
}

fn silence(outcome: Outcome) -> Silence {
    let Decision::Silence(reason) = outcome.decision else { panic!("{outcome:?}") };
    reason
}

fn text(message: &v4::Message, code: OptionCode) -> Option<Vec<u8>> {
    match message.opts().get(code)? {
        DhcpOption::BootfileName(v)
        | DhcpOption::TFTPServerName(v)
        | DhcpOption::ClassIdentifier(v)
        | DhcpOption::VendorExtensions(v)
        | DhcpOption::ClientMachineIdentifier(v) => Some(v.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn edk2_pxe_gets_an_offer_without_option_43() {
    let (message, destination, kind) = reply(ask(&Sample::edk2_pxe(), Port::Dhcp, &boots()));
    assert_eq!(kind, Kind::PxeOffer);
    assert_eq!(destination, "255.255.255.255:68".parse().unwrap());
    assert_eq!(message.opts().msg_type(), Some(v4::MessageType::Offer));
    assert_eq!((message.yiaddr(), message.siaddr()), (Ipv4Addr::UNSPECIFIED, SERVER));
    assert_eq!((message.xid(), message.chaddr()), (0xdead_beef, &MAC[..]));
    assert!(message.flags().broadcast());
    assert_eq!(text(&message, OptionCode::VendorExtensions), None);
    assert_eq!(text(&message, OptionCode::ClassIdentifier).unwrap(), b"PXEClient");
    assert_eq!(text(&message, OptionCode::BootfileName).unwrap(), b"k8s-worker.efi\0");
    assert_eq!(text(&message, OptionCode::TFTPServerName).unwrap(), b"10.77.0.2");
    assert!(message.fname().unwrap().starts_with(b"k8s-worker.efi"));
    assert!(message.sname().unwrap().starts_with(b"10.77.0.2"));
    let guid = text(&message, OptionCode::ClientMachineIdentifier).unwrap();
    assert_eq!(guid, [&[0], &GUID[..]].concat());
    let server_id = message.opts().get(OptionCode::ServerIdentifier);
    assert_eq!(server_id, Some(&DhcpOption::ServerIdentifier(SERVER)));
}

#[test]
fn a_bios_rom_gets_ipxe_by_tftp_and_is_told_to_take_it() {
    for sample in [Sample::bios_pxe(), Sample::bios_pxe().without(93).option(60, b"PXEClient")] {
        let (message, destination, kind) = reply(ask(&sample, Port::Dhcp, &boots()));
        assert_eq!((kind, destination.port()), (Kind::PxeOffer, 68));
        assert_eq!(text(&message, OptionCode::VendorExtensions).unwrap(), [6, 1, 8, 255]);
        assert_eq!(text(&message, OptionCode::BootfileName).unwrap(), b"undionly.kpxe\0");
        assert!(message.fname().unwrap().starts_with(b"undionly.kpxe"));
        assert_eq!((message.yiaddr(), message.siaddr()), (Ipv4Addr::UNSPECIFIED, SERVER));
    }
    // A ROM that asks once more all the same.
    let (message, _, kind) = reply(ask(&Sample::bios_pxe().option(53, &[3]).ciaddr(CLIENT), Port::Proxy, &boots()));
    assert_eq!(kind, Kind::PxeAck);
    assert_eq!(text(&message, OptionCode::BootfileName).unwrap(), b"undionly.kpxe\0");
}

#[test]
fn any_ipxe_on_bios_gets_the_script_and_never_ipxe_again() {
    let bare = Sample::bios_pxe().option(77, b"iPXE");
    let by_length = Sample::bios_pxe().option(77, b"\x04iPXE");
    let by_features = Sample::bios_pxe().option(175, &[0xb1, 0, 1, 1]);
    let no_architecture = Sample::bios_ipxe().option(60, b"PXEClient").without(93);
    for sample in [Sample::bios_ipxe(), bare, by_length, by_features, no_architecture] {
        let (message, _, kind) = reply(ask(&sample, Port::Dhcp, &boots()));
        assert_eq!(kind, Kind::ScriptOffer);
        assert_eq!(text(&message, OptionCode::ClassIdentifier).unwrap(), b"PXEClient");
        assert_eq!(text(&message, OptionCode::VendorExtensions).unwrap(), [6, 1, 8, 255]);
        assert_eq!(text(&message, OptionCode::BootfileName).unwrap(), b"http://10.77.0.2/boot/k8s-worker.ipxe\0");
        assert!(message.fname().unwrap().starts_with(b"http://10.77.0.2/boot/k8s-worker.ipxe"));
    }
    // Where the DHCP server names only the class, iPXE asks on port 4011.
    let (message, destination, kind) = reply(ask(&Sample::bios_ipxe().option(53, &[3]), Port::Proxy, &boots()));
    assert_eq!((kind, destination.port()), (Kind::PxeAck, 4011));
    assert_eq!(text(&message, OptionCode::BootfileName).unwrap(), b"http://10.77.0.2/boot/k8s-worker.ipxe\0");
    let uefi = Sample::edk2_pxe().option(77, b"iPXE").option(175, &[0xb1, 0, 1, 1]);
    let (message, ..) = reply(ask(&uefi, Port::Dhcp, &boots()));
    let url = b"http://10.77.0.2/boot/k8s-worker-efi.ipxe\0";
    assert_eq!(
        text(&message, OptionCode::BootfileName).unwrap(),
        url,
        "a script, by its full URL, starts the signed file"
    );
    assert_eq!(text(&message, OptionCode::VendorExtensions), None);
}

#[test]
fn the_4011_request_gets_an_ack_with_the_file_at_the_askers_port() {
    let (message, destination, kind) = reply(ask(&Sample::edk2_4011(CLIENT), Port::Proxy, &boots()));
    assert_eq!(kind, Kind::PxeAck);
    assert_eq!(destination, SocketAddrV4::new(CLIENT, 4011));
    assert_eq!(message.opts().msg_type(), Some(v4::MessageType::Ack));
    assert_eq!((message.yiaddr(), message.ciaddr()), (Ipv4Addr::UNSPECIFIED, CLIENT));
    assert_eq!(text(&message, OptionCode::BootfileName).unwrap(), b"k8s-worker.efi\0");
}

#[test]
fn a_4011_request_with_the_guid_as_hardware_address_is_matched() {
    let sample = Sample::edk2_4011(CLIENT).guid_for_address();
    let outcome = ask(&sample, Port::Proxy, &boots());
    assert_eq!(outcome.mac, Some(Mac(MAC)), "by the GUID of the DISCOVER");
    let (message, ..) = reply(outcome);
    assert_eq!(message.chaddr(), GUID, "the address field goes back as it came");

    let stranger = Fixed { guid_known: false, ..boots() };
    assert_eq!(silence(ask(&sample, Port::Proxy, &stranger)), Silence::Unidentified);
    let packet = Packet::read(&sample.without(97).bytes()).unwrap();
    let neighbour = Arrival { neighbour: Some(Mac(MAC)), ..arrival(Port::Proxy) };
    assert_eq!(answer(&packet, &neighbour, &stranger).mac, Some(Mac(MAC)), "by the neighbour table");
}

#[test]
fn http_boot_gets_a_url_with_a_literal_address() {
    for architectures in [&[0, 16][..], &[0, 15, 0, 16], &[0, 0x13], &[0, 0x18]] {
        let sample = Sample::edk2_http().option(93, architectures);
        let (message, _, kind) = reply(ask(&sample, Port::Dhcp, &boots()));
        assert_eq!(kind, Kind::HttpOffer);
        assert_eq!(text(&message, OptionCode::ClassIdentifier).unwrap(), b"HTTPClient");
        let url = text(&message, OptionCode::BootfileName).unwrap();
        let arm = matches!(architectures, [0, 0x13 | 0x18]);
        let name = if arm { "k8s-arm" } else { "k8s-worker" };
        assert_eq!(url, format!("http://10.77.0.2/boot/{name}.efi\0").as_bytes());
        assert_eq!(message.fname().unwrap()[..url.len() - 1], url[..url.len() - 1]);
        assert_eq!(text(&message, OptionCode::VendorExtensions), None);
    }
}

#[test]
fn the_agent_gets_the_base_url_even_when_its_machine_is_not_served() {
    let nobody = Fixed { ruling: Ruling::Silent("installed".into()), guid_known: false };
    let sample = Sample::discover(contracts::discovery::VENDOR_CLASS.as_bytes());
    let (message, destination, kind) = reply(ask(&sample, Port::Dhcp, &nobody));
    assert_eq!((kind, destination.port()), (Kind::AgentOffer, 68));
    assert_eq!(text(&message, OptionCode::ClassIdentifier).unwrap(), b"shelfboot-agent");
    let url = contracts::discovery::decode(&text(&message, OptionCode::VendorExtensions).unwrap()).unwrap();
    assert_eq!(url, "http://10.77.0.2");

    // Where the LAN's DHCP server leaves no room for a proxy, the agent asks its address on port 4011.
    let (message, destination, kind) = reply(ask(&sample.option(53, &[8]), Port::Proxy, &nobody));
    assert_eq!((kind, destination), (Kind::AgentAck, SocketAddrV4::new(CLIENT, 4011)));
    assert_eq!(message.opts().msg_type(), Some(v4::MessageType::Ack));
    let url = contracts::discovery::decode(&text(&message, OptionCode::VendorExtensions).unwrap()).unwrap();
    assert_eq!(url, "http://10.77.0.2");
}

#[test]
fn everything_else_on_the_lan_hears_nothing() {
    let quiet = |sample: Sample, port| silence(ask(&sample, port, &boots()));
    let till = Sample::discover(b"MSFT 5.0");
    assert!(matches!(quiet(till, Port::Dhcp), Silence::NotABootClient(class) if class == "MSFT 5.0"));
    assert!(matches!(quiet(Sample::discover(b"android-dhcp-14"), Port::Dhcp), Silence::NotABootClient(_)));
    assert!(matches!(quiet(Sample::discover(b""), Port::Dhcp), Silence::NotABootClient(_)));
    assert!(matches!(quiet(Sample::discover(b"HPPrinter\x1b[2J"), Port::Dhcp), Silence::NotABootClient(_)));
    assert_eq!(quiet(Sample::edk2_pxe().op(2), Port::Dhcp), Silence::NotARequest);
    assert_eq!(quiet(Sample::edk2_pxe().without(53), Port::Dhcp), Silence::NoMessageType);
    let request = Sample::edk2_pxe().option(53, &[3]);
    assert_eq!(quiet(request, Port::Dhcp), Silence::NotForUs(MessageType::Request));
    assert_eq!(quiet(Sample::edk2_pxe(), Port::Proxy), Silence::NotForUs(MessageType::Discover));
    assert_eq!(quiet(Sample::edk2_pxe().option(97, &[1, 2]), Port::Dhcp), Silence::BadGuid);
    let bios = Sample::edk2_http().option(93, &[0, 0x14]);
    assert!(quiet(bios, Port::Dhcp).to_string().contains("BIOS"));
    assert_eq!(quiet(Sample::bios_ipxe().option(53, &[3]), Port::Dhcp), Silence::NotForUs(MessageType::Request));
    assert_eq!(quiet(Sample::edk2_pxe().option(93, &[0, 6]), Port::Dhcp), Silence::Unserved(6));
    for (code, word) in [(0x0a, "ARM"), (0x15, "ARM"), (0x1b, "RISC-V"), (0x25, "LoongArch"), (0x77, "0x77")] {
        let reason = quiet(Sample::edk2_pxe().option(93, &[0, code]), Port::Dhcp);
        assert_eq!(reason, Silence::Unserved(u16::from(code)));
        assert!(reason.to_string().contains(word), "{reason}");
    }
    let reason = quiet(Sample::edk2_http().option(93, &[0, 15]), Port::Dhcp).to_string();
    assert!(reason.contains("32-bit UEFI"), "{reason}");
}

#[test]
fn the_policy_has_the_last_word() {
    let installed = Fixed { ruling: Ruling::Silent("it is installed".into()), guid_known: true };
    for (sample, port) in
        [(Sample::edk2_pxe(), Port::Dhcp), (Sample::edk2_http(), Port::Dhcp), (Sample::edk2_4011(CLIENT), Port::Proxy)]
    {
        assert_eq!(silence(ask(&sample, port, &installed)), Silence::Policy("it is installed".into()));
    }
}

#[test]
fn a_relayed_request_is_answered_to_the_relay_for_broadcast_with_option_82_last() {
    let relay = Ipv4Addr::new(10, 9, 0, 1);
    let sample = Sample::edk2_pxe().giaddr(relay).flags(0).option(82, &[1, 2, 7, 7]);
    let Decision::Reply { bytes, destination, .. } = ask(&sample, Port::Dhcp, &boots()).decision else { panic!() };
    assert_eq!(destination, Destination::Ip(SocketAddrV4::new(relay, 67)));
    // iPXE asks for unicast, but there is no address in the offer to which a relay could send it (seen with dnsmasq as relay).
    let message = v4::Message::decode(&mut Decoder::new(&bytes)).unwrap();
    assert_eq!((message.giaddr(), message.flags().broadcast()), (relay, true));
    let end = bytes.iter().rposition(|b| *b == 255).unwrap();
    assert_eq!(bytes[end - 6..end], [82, 4, 1, 2, 7, 7]);
    assert_eq!(Packet::read(&bytes).unwrap().option(82), Some(&[1, 2, 7, 7][..]), "and only once");
}

#[test]
fn an_answer_that_the_client_would_drop_is_not_sent() {
    let long = Fixed { ruling: Ruling::Boot(format!("{}.efi", "x".repeat(230))), guid_known: true };
    let sample = Sample::edk2_http().without(57);
    assert!(matches!(silence(ask(&sample, Port::Dhcp, &long)), Silence::Unwritable(WriteError::TooLarge { .. })));
}

#[test]
fn arm64_gets_the_file_of_its_own_kind() {
    for code in [0x0b, 0x16] {
        let sample = Sample::edk2_pxe().option(60, b"PXEClient:Arch:00011:UNDI:003000").option(93, &[0, code]);
        let outcome = ask(&sample, Port::Dhcp, &boots());
        assert_eq!(outcome.family, Family::UefiPxe(Arch::Arm64));
        let (message, ..) = reply(outcome);
        assert_eq!(text(&message, OptionCode::BootfileName).unwrap(), b"k8s-arm.efi\0");
    }
}

#[test]
fn a_raspberry_pi_is_no_bios_pc() {
    let rom = Sample::bios_pxe().mac([0xdc, 0xa6, 0x32, 1, 2, 3]);
    assert_eq!(silence(ask(&rom, Port::Dhcp, &boots())), Silence::RaspberryPi);
    let newer = Sample::edk2_pxe().option(93, &[0, 0x29]);
    assert_eq!(silence(ask(&newer, Port::Dhcp, &boots())), Silence::RaspberryPi);
    // The same board with UEFI firmware is a machine like others.
    let uefi = Sample::edk2_pxe().option(93, &[0, 0x0b]).mac([0xdc, 0xa6, 0x32, 1, 2, 3]);
    assert_eq!(ask(&uefi, Port::Dhcp, &boots()).family, Family::UefiPxe(Arch::Arm64));
}

#[test]
fn the_boot_item_that_was_chosen_goes_back_and_security_is_refused() {
    let chosen = Sample::bios_pxe().option(53, &[3]).ciaddr(CLIENT).option(43, &[0, 71, 4, 0, 15, 0, 1, 255]);
    let (message, ..) = reply(ask(&chosen, Port::Proxy, &boots()));
    assert_eq!(text(&message, OptionCode::VendorExtensions).unwrap(), [71, 4, 0, 15, 0, 1, 6, 1, 8, 255]);
    let secure = chosen.option(43, &[71, 4, 0, 15, 0x80, 1, 255]);
    assert_eq!(silence(ask(&secure, Port::Proxy, &boots())), Silence::SecureItem);
}

#[test]
fn a_short_question_gets_no_long_answer() {
    let sample = Sample::discover(b"PXEClient").option(57, &[5, 192]);
    let question = sample.bytes().len();
    for name in [10, 100, 200, 230] {
        let long = Named(format!("{}.efi", "x".repeat(name)));
        match answer(&Packet::read(&sample.bytes()).unwrap(), &arrival(Port::Dhcp), &long).decision {
            Decision::Reply { bytes, .. } => assert!(bytes.len() <= 3 * question),
            Decision::Silence(reason) => {
                assert!(matches!(reason, Silence::Unwritable(WriteError::Amplifies { .. })), "{reason}");
            }
        }
    }
}

struct Named(String);

impl Policy for Named {
    fn ruling(&self, _: Mac, _: Starts) -> Ruling {
        Ruling::Boot(self.0.clone())
    }
    fn by_guid(&self, _: &[u8; 16]) -> Option<Mac> {
        None
    }
}

#[test]
fn every_seed_of_the_fuzzer_is_decided_as_its_name_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/dhcp");
    let mut answered = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Ok(packet) = Packet::read(&std::fs::read(&path).unwrap()) else { continue };
        let replies = |port| matches!(answer(&packet, &arrival(port), &boots()).decision, Decision::Reply { .. });
        if replies(Port::Dhcp) || replies(Port::Proxy) {
            answered.push(name);
        }
    }
    answered.sort();
    let expected =
        ["agent", "arm64", "bios", "edk2", "edk2-4011", "edk2-guid", "http", "inform", "ipxe", "item", "relay"];
    assert_eq!(answered, expected, "raspberry, till and offer hear nothing; frame and arp are no DHCP");
}
