//! A service inside the broker beside clients outside.

use std::{cell::Cell, rc::Rc};

use broker_core::effect::HandlerId;

use super::Server;
use crate::internal::{Bus, Internal};

/// Answers every request with what it got, and itself publishes to a subject it listens to.
#[derive(Default)]
struct Echo {
    subscribed: bool,
    noted: Vec<Noted>,
    unanswered: usize,
    backlog: Rc<Cell<usize>>,
}

struct Noted {
    handler: HandlerId,
    subject: Vec<u8>,
    reply: Vec<u8>,
    payload: Vec<u8>,
}

const ECHO: HandlerId = HandlerId(1);
const RELAY: HandlerId = HandlerId(2);

impl Internal for Echo {
    fn deliver(
        &mut self,
        handler: HandlerId,
        subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &[u8],
    ) {
        self.noted.push(Noted {
            handler,
            subject: subject.into(),
            reply: reply.into(),
            payload: [headers, payload].concat(),
        });
    }

    fn end_of_pass(&mut self, bus: &mut dyn Bus) {
        if !self.subscribed {
            bus.subscribe(b"echo.*", ECHO);
            bus.subscribe(b"relay", RELAY);
            self.subscribed = true;
        }
        for noted in std::mem::take(&mut self.noted) {
            let Noted {
                handler,
                subject,
                reply,
                payload,
            } = noted;
            let to: &[u8] = if handler == RELAY {
                b"echo.relayed"
            } else {
                &reply
            };
            if !bus.publish(to, &reply, &[[&subject, &payload]]) {
                self.unanswered += 1;
            }
        }
    }

    fn servers_changed(&mut self) {}

    fn backlog_bytes(&self) -> usize {
        self.backlog.get()
    }
}

fn echo_server() -> Server {
    let make_internal: crate::launch::MakeInternal =
        Box::new(|_| Box::pin(async { Some(Box::new(Echo::default()) as Box<dyn Internal>) }));
    let server = Server::with_services(|_| {}, make_internal);
    super::eventually("service listens", || {
        server.stats().snapshot().subscriptions == 2
    });
    server
}

#[test]
fn services_answer_clients_on_every_worker() {
    let server = echo_server();
    for _ in 0..2 {
        let mut client = server.modern_client();
        client.send(
            "SUB in 1\r\nPUB echo.x in 2\r\nhi\r\nHPUB echo.y in 12 13\r\nNATS/1.0\r\n\r\n!\r\n",
        );
        client.expect("MSG in 1 in 8\r\necho.xhi\r\nMSG in 1 in 19\r\necho.yNATS/1.0\r\n\r\n!\r\n");
    }
}

#[test]
fn a_service_can_publish_to_itself() {
    let server = echo_server();
    let mut client = server.client();
    client.send("SUB in 1\r\nPUB relay in 1\r\nz\r\n");
    client.expect("MSG in 1 in 18\r\necho.relayedrelayz\r\n");
}

#[test]
fn what_a_task_publishes_reaches_the_service_too() {
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let make_internal: crate::launch::MakeInternal = Box::new(|worker| {
        Box::pin(async move {
            tokio::task::spawn_local(async move {
                receiver.await.unwrap();
                let payloads: &[[&[u8]; 2]] = &[[b"tick", b""]];
                let reached =
                    worker.with_internal(|_, bus| bus.publish(b"echo.t", b"in", payloads));
                assert_eq!(reached, Some(true));
            });
            Some(Box::new(Echo::default()) as Box<dyn Internal>)
        })
    });
    let server = Server::with_services(|_| {}, make_internal);
    super::eventually("service listens", || {
        server.stats().snapshot().subscriptions == 2
    });
    let mut client = server.client();
    client.send("SUB in 1\r\n");
    client.sync();
    sender.send(()).unwrap();
    client.expect("MSG in 1 in 10\r\necho.ttick\r\n");
}

#[test]
fn order_is_kept_through_a_service() {
    const MESSAGES: usize = 5000;
    let server = echo_server();
    let mut client = server.client();
    client.send("SUB in 1\r\n");
    let all = |line: &str| {
        (0..MESSAGES).fold(String::new(), |all, number| {
            all + &format!("{line}{number:04}\r\n")
        })
    };
    let (input, output) = (all("PUB echo.n in 4\r\n"), all("MSG in 1 in 10\r\necho.n"));
    let mut writer = client.socket.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut writer, input.as_bytes()).unwrap());
        client.expect(&output);
    });
}

#[test]
fn producers_wait_for_a_service_that_is_behind() {
    // Reports a large backlog until the test says otherwise, through the worker's handle.
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let make_internal: crate::launch::MakeInternal = Box::new(|worker| {
        Box::pin(async move {
            let backlog = Rc::new(Cell::new(usize::MAX / 4));
            let service = Echo {
                backlog: Rc::clone(&backlog),
                ..Echo::default()
            };
            tokio::task::spawn_local(async move {
                receiver.await.unwrap();
                backlog.set(0);
                assert!(
                    worker
                        .with_internal(|internal, bus| internal.end_of_pass(bus))
                        .is_some()
                );
            });
            Some(Box::new(service) as Box<dyn Internal>)
        })
    });
    let server = Server::with_services(|_| {}, make_internal);
    super::eventually("service listens", || {
        server.stats().snapshot().subscriptions == 2
    });
    let mut clients = [server.client(), server.client()];
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&format!(
            "SUB in{number} 1\r\nPUB echo.x in{number} 0\r\n\r\n"
        ));
        client.expect(&format!("MSG in{number} 1 in{number} 6\r\necho.x\r\n"));
        client
            .socket
            .set_read_timeout(Some(std::time::Duration::from_millis(100)))
            .unwrap();
        client.send("PING\r\n");
        let error = std::io::Read::read(&mut client.socket, &mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "left unread");
        client
            .socket
            .set_read_timeout(Some(super::PATIENCE))
            .unwrap();
    }
    sender.send(()).unwrap();
    for client in &mut clients {
        client.expect("PONG\r\n");
    }
}
