//! The inbox: commands of one socket, taken in on the reader's task in the order sent, and worked off one after the
//! other by a task that exists only while there are any.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use hallway_rooms::close::{Close, Refusal};
use metrics::counter;
use parking_lot::Mutex;
use socketioxide::adapter::LocalAdapter;
use socketioxide::handler::{MessageHandler, Value};
use socketioxide::socket::Socket;

use super::Door;
use super::command::Command;
use super::encode::Namespace;
use super::pace::{Pace, Verdict};
use crate::metrics::{COMMANDS_REFUSED, limit::Limit};
use crate::session::Session;

/// Commands that may still come out of the read buffer after reading was paused.
const BUFFERED: usize = 1024;

/// One socket's commands.
#[derive(Clone, Debug)]
pub(super) struct Inbox(pub(super) Arc<Connection>);

/// A signed-in socket.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) door: Arc<Door>,
    pub(super) session: Arc<Session>,
    pub(super) namespace: Arc<Namespace>,
    pace: Pace,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    commands: VecDeque<Command>,
    working: bool,
    paused: bool,
}

/// Tells this handler from closures; socketioxide asks for a type.
#[derive(Debug)]
pub(super) struct InOrder;

impl MessageHandler<LocalAdapter, InOrder> for Inbox {
    fn call(&self, _: Arc<Socket<LocalAdapter>>, packet: Value, ack: Option<i64>) {
        let Value::Str(packet, _) = packet else { return };
        if !self.0.keeps_pace(ack) {
            return;
        }
        match Command::parse(&packet, ack) {
            Ok(command) => self.0.take(command),
            Err(_) => self.0.session.close(Close::MalformedFrame),
        }
    }
}

impl Connection {
    pub(super) fn new(door: Arc<Door>, session: Arc<Session>, namespace: Arc<Namespace>, pace: Pace) -> Arc<Self> {
        Arc::new(Self { door, session, namespace, pace, queue: Mutex::default() })
    }

    /// Whether a command that has just come is to be looked at. If not, it is refused in its turn, or, without an ack id,
    /// dropped.
    fn keeps_pace(self: &Arc<Self>, ack: Option<i64>) -> bool {
        let verdict = self.pace.judge(self.door.pace, Instant::now());
        if verdict == Verdict::Fine {
            return true;
        }
        Limit::CommandsPerMinute.reached();
        if verdict == Verdict::TooMany {
            counter!(COMMANDS_REFUSED, "why" => Close::TooManyCommands.code()).increment(1);
            self.session.close(Close::TooManyCommands);
            return false;
        }
        counter!(COMMANDS_REFUSED, "why" => Refusal::RateLimited.code()).increment(1);
        if let Some(ack) = ack {
            self.take(Command::refused(Refusal::RateLimited, ack));
        }
        false
    }

    fn take(self: &Arc<Self>, command: Command) {
        let mut queue = self.queue.lock();
        if queue.commands.len() >= self.door.pending_commands + BUFFERED {
            drop(queue);
            return self.session.close(Close::TooManyCommands);
        }
        queue.commands.push_back(command);
        if queue.commands.len() >= self.door.pending_commands && !queue.paused {
            queue.paused = true;
            self.session.lane().wire().pause_reads();
        }
        if !std::mem::replace(&mut queue.working, true) {
            drop(queue);
            self.door.tasks.spawn(self.clone().work());
        }
    }

    async fn work(self: Arc<Self>) {
        while let Some(command) = self.next() {
            self.perform(command).await;
        }
    }

    fn next(&self) -> Option<Command> {
        let mut queue = self.queue.lock();
        if self.session.is_finished() || self.session.is_kicked() {
            queue.commands.clear();
        }
        let command = queue.commands.pop_front();
        if queue.paused && queue.commands.len() <= self.door.pending_commands / 2 {
            queue.paused = false;
            self.session.lane().wire().resume_reads();
        }
        if command.is_none() {
            queue.working = false;
            queue.commands = VecDeque::new();
        }
        command
    }
}
