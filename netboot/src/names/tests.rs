//! The resolver against servers on the loopback that behave as real ones do on bad days.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a server does with a question.
#[derive(Debug, Clone, Copy)]
enum Habit {
    /// Answers with an address, after a packet that was forged.
    Good { seconds: u32 },
    /// Says over UDP that the answer does not fit.
    OverTcp,
    /// Knows no such name.
    NoName,
}

/// An answer: 10.9.8.7 for questions of kind A.
fn reply(query: &[u8], habit: Habit, tcp: bool) -> Vec<u8> {
    let mut bytes = query.to_vec();
    bytes[2..4].copy_from_slice(&match habit {
        Habit::OverTcp if !tcp => [0x83, 0x80],
        Habit::NoName => [0x81, 0x83],
        _ => [0x81, 0x80],
    });
    let seconds = if let Habit::Good { seconds } = habit { seconds } else { 60 };
    if bytes.ends_with(&[0, 1, 0, 1]) && bytes[2] & 2 == 0 {
        bytes[7] = 1;
        bytes.extend([0xc0, 12, 0, 1, 0, 1]);
        bytes.extend(seconds.to_be_bytes());
        bytes.extend([0, 4, 10, 9, 8, 7]);
    }
    bytes
}

/// A server on the loopback, which counts the questions. It ends with the test's runtime.
async fn server(habit: Habit) -> (SocketAddr, Arc<AtomicUsize>) {
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            count.fetch_add(1, Ordering::Relaxed);
            let mut forged = reply(&buffer[..length], habit, false);
            forged[0] ^= 0xff;
            udp.send_to(&forged, from).await.unwrap();
            udp.send_to(&reply(&buffer[..length], habit, false), from).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut query).await.unwrap();
            let answer = reply(&query, habit, true);
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    (address, asked)
}

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 8, 7));

/// A port where nobody is: the kernel says so at once.
async fn nobody() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_name_is_asked_for_once_while_its_answer_holds() {
    let (address, asked) = server(Habit::Good { seconds: 60 }).await;
    let names = Names::new(vec![address], "/nonexistent");
    for name in ["registrar.example", "Registrar.Example", "registrar.example"] {
        assert_eq!(names.find(name).await, Ok(vec![ADDRESS]));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(names.find("10.1.1.1").await, Ok(vec!["10.1.1.1".parse().unwrap()]), "an address asks nobody");
}

#[tokio::test]
async fn the_next_server_is_asked_and_long_answers_come_over_tcp() {
    let (address, _) = server(Habit::OverTcp).await;
    let names = Names::new(vec![nobody().await, address], "/nonexistent");
    assert_eq!(names.find("registrar.example").await, Ok(vec![ADDRESS]));
}

#[tokio::test]
async fn the_last_good_answer_outlives_dns() {
    let (address, _) = server(Habit::Good { seconds: 60 }).await;
    let names = Names::new(vec![address], "/nonexistent");
    names.find("registrar.example").await.unwrap();
    lock(&names.known).get_mut("registrar.example").unwrap().until = Instant::now();
    names.set_servers(&[nobody().await]);
    assert_eq!(names.find("registrar.example").await, Ok(vec![ADDRESS]));
    assert!(matches!(names.find("other.example").await, Err(NameError::Unanswered { .. })));
}

#[tokio::test]
async fn failures_are_told_apart() {
    let (address, _) = server(Habit::NoName).await;
    let names = Names::new(vec![address], "/nonexistent");
    assert_eq!(names.find("r.example").await, Err(NameError::Unknown("r.example".into())));
    assert_eq!(names.find("a b").await, Err(NameError::NotAName("a b".into())));
    let nobody = Names::new(vec![], "/nonexistent");
    assert_eq!(nobody.find("r.example").await, Err(NameError::NoServer("r.example".into())));
}

#[test]
fn servers_of_the_system() {
    let text = "# comment\nsearch example\nnameserver 10.0.0.1\nnameserver fd00::1\nnameserver broken\n";
    assert_eq!(nameservers(text), ["10.0.0.1:53".parse().unwrap(), "[fd00::1]:53".parse().unwrap()]);
    assert_eq!(nameservers(&"nameserver 10.0.0.1\n".repeat(99)).len(), MOST_SERVERS);
}
