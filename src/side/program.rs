//! Runs one program of the operator's: in a process group of its own, without a shell, for a limited time.
//!
//! The end is seen on a pidfd and not by waiting: a child that has ended and is not yet waited for keeps its process id, so its
//! group can be killed without hitting a stranger to whom the number was given next. tokio's own children are reaped before one gets
//! to know, which leaves no such moment.
//!
//! A program that leaves others behind, which hold its output open, holds nobody: its group is killed when it ends, and what it
//! said until then is all that is waited for. No rights are dropped; it runs as the user that evenkeel runs as.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use evenkeel_model::limits;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::time::{Instant, sleep_until, timeout};

/// Where programs are looked for by those that the operator's program starts.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const STRAGGLE: Duration = Duration::from_millis(limits::COMMAND_STRAGGLE.value);
const OUTPUT: usize = limits::COMMAND_OUTPUT.value as usize;

/// What is run.
pub struct Program {
    /// The program, by absolute path, and its arguments.
    pub words: Box<[String]>,
    /// Beside PATH, which is all else that it gets.
    pub environment: Vec<(&'static str, String)>,
    pub input: Vec<u8>,
}

/// How it went.
pub struct Ran {
    pub end: End,
    /// The beginning of what it wrote to standard output and standard error.
    pub output: Vec<u8>,
}

pub enum End {
    Exited(ExitStatus),
    /// It ran at the deadline and was killed.
    Overdue,
    /// It was not even running at the deadline: the disk it lies on does not answer, or we are short of threads.
    NotYetStarted,
    NotStarted(io::Error),
}

impl Program {
    /// Runs it until `deadline` at most. To drop the future is to kill it.
    pub async fn run(self, deadline: Instant) -> Ran {
        let Program { words, environment, input } = self;
        let wants_input = !input.is_empty();
        let nothing_said = |end| Ran { end, output: Vec::new() };
        // A start waits for the kernel to have read the program, which may lie on a disk that does not answer.
        let starting = tokio::task::spawn_blocking(move || Leader::start(&words, &environment, wants_input));
        let started = match tokio::time::timeout_at(deadline, starting).await {
            Err(_) => return nothing_said(End::NotYetStarted),
            Ok(Err(_)) => return nothing_said(End::NotStarted(io::Error::from_raw_os_error(EAGAIN))),
            Ok(Ok(started)) => started.and_then(|(leader, pipes)| Ok((Watched::new(leader)?, pipes.open()?))),
        };
        let (mut watched, (stdin, stdout)) = match started {
            Ok(started) => started,
            Err(error) => return nothing_said(End::NotStarted(error)),
        };
        let mut output = Vec::new();
        let end = {
            let talking = async { tokio::join!(feed(stdin, &input), listen(stdout, &mut output)) };
            tokio::pin!(talking);
            let mut silent = false;
            let ended = loop {
                tokio::select! {
                    biased;
                    () = watched.ended() => break true,
                    _ = &mut talking, if !silent => silent = true,
                    () = sleep_until(deadline) => break watched.has_ended(),
                }
            };
            watched.leader.kill_group();
            if ended && !silent {
                // Those that hold its output are dead now, or have left the group and are not waited for.
                let _ = timeout(STRAGGLE, &mut talking).await;
            }
            ended
        };
        let end = match end {
            true => watched.leader.reap().map_or_else(End::NotStarted, End::Exited),
            false => End::Overdue,
        };
        Ran { end, output }
    }
}

/// The kernel's word for "not now".
const EAGAIN: i32 = 11;

async fn feed(stdin: Option<Sender>, input: &[u8]) {
    if let Some(mut stdin) = stdin {
        // A program that does not read all of it may have its reasons.
        let _ = stdin.write_all(input).await;
    }
}

async fn listen(mut stdout: Receiver, output: &mut Vec<u8>) {
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = stdout.read(&mut chunk).await {
        let room = OUTPUT - output.len();
        output.extend_from_slice(&chunk[..read.min(room)]);
    }
}

/// The program, which leads its group. Whoever loses it has killed the group and sent for the body.
struct Leader {
    child: Option<Child>,
    pid: Pid,
}

/// Our ends of its pipes.
struct Pipes {
    stdin: Option<ChildStdin>,
    stdout: io::PipeReader,
}

impl Pipes {
    fn open(self) -> io::Result<(Option<Sender>, Receiver)> {
        let stdin = self.stdin.map(|stdin| Sender::from_owned_fd(OwnedFd::from(stdin))).transpose()?;
        Ok((stdin, Receiver::from_owned_fd(OwnedFd::from(self.stdout))?))
    }
}

impl Leader {
    fn start(
        words: &[String],
        environment: &[(&'static str, String)],
        wants_input: bool,
    ) -> io::Result<(Leader, Pipes)> {
        let (program, arguments) = words.split_first().expect("config takes no empty command");
        let (stdout, writer) = io::pipe()?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", PATH).current_dir("/").process_group(0);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(if wants_input { Stdio::piped() } else { Stdio::null() });
        command.stderr(writer.try_clone()?).stdout(writer);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        let pid = Pid::from_child(&child);
        Ok((Leader { child: Some(child), pid }, Pipes { stdin, stdout }))
    }

    fn kill_group(&self) {
        // Nobody of it may be left.
        let _ = kill_process_group(self.pid, Signal::KILL);
    }

    /// Of one that has ended.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        self.child.take().expect("it is reaped once").wait()
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Not reaped, so the number is still its own.
        self.kill_group();
        if tokio::runtime::Handle::try_current().is_ok() {
            // The kernel may take a while, if the program waits for a disk.
            tokio::task::spawn_blocking(move || child.wait());
        }
    }
}

/// One whose end is heard of.
struct Watched {
    pidfd: AsyncFd<OwnedFd>,
    leader: Leader,
}

impl Watched {
    fn new(leader: Leader) -> io::Result<Self> {
        let pidfd = pidfd_open(leader.pid, PidfdFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "the new way is unsafe for the sake of types that close their file early; ours does not"
        )]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
        Ok(Watched { pidfd, leader })
    }

    async fn ended(&self) {
        // Fails only with the runtime.
        let _ = self.pidfd.readable().await;
    }

    fn has_ended(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::PidFd(self.pidfd.get_ref().as_fd()), look).is_ok_and(|status| status.is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A test that fails ends sooner by it; no good run comes near.
    const PATIENT: Duration = Duration::from_secs(60);

    fn program(script: &str, input: &[u8]) -> Program {
        let words = ["/bin/sh", "-c", script].map(str::to_owned).into();
        Program { words, environment: vec![("EVENKEEL_PORT", "80".to_owned())], input: input.to_vec() }
    }

    fn on_runtime<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("the process has files left").block_on(work)
    }

    fn run(script: &str, within: Duration) -> Ran {
        on_runtime(program(script, b"").run(Instant::now() + within))
    }

    fn said(ran: &Ran) -> String {
        String::from_utf8_lossy(&ran.output).trim().to_owned()
    }

    fn code(ran: &Ran) -> Option<i32> {
        match &ran.end {
            End::Exited(status) => status.code(),
            End::Overdue | End::NotYetStarted | End::NotStarted(_) => None,
        }
    }

    /// Waits until no process has this number, not even as a zombie.
    fn is_gone(pid: &str) {
        let deadline = std::time::Instant::now() + PATIENT;
        while Path::new("/proc").join(pid).exists() {
            assert!(std::time::Instant::now() < deadline, "process {pid} is still there");
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    #[test]
    fn what_it_says_on_either_output_and_its_status_are_kept() {
        let ran = run("echo one; echo two >&2; exit 3", PATIENT);
        assert_eq!((said(&ran).as_str(), code(&ran)), ("one\ntwo", Some(3)));
    }

    #[test]
    fn it_gets_its_environment_and_no_other_an_empty_input_and_no_file_of_ours() {
        let ran = run("env | sort; pwd; cat; ls /proc/self/fd | wc -l", PATIENT);
        // PWD is the shell's own; the fourth file is the folder that ls reads. Whoever started this test may have left files open.
        let files = 4 + inherited();
        assert_eq!(said(&ran), format!("EVENKEEL_PORT=80\nPATH={PATH}\nPWD=/\n/\n{files}"));
    }

    /// Files beyond the first three that any child gets.
    fn inherited() -> usize {
        const CLOSED_FOR_CHILDREN: u32 = 0o2_000_000;
        let folder = std::fs::read_dir("/proc/self/fdinfo").expect("Linux");
        let is_inherited = |entry: &std::fs::DirEntry| {
            let number: i32 = entry.file_name().to_string_lossy().parse().expect("a number");
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = flags.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok());
            number > 2 && flags.is_some_and(|flags| flags & CLOSED_FOR_CHILDREN == 0)
        };
        folder.filter_map(Result::ok).filter(is_inherited).count()
    }

    #[test]
    fn what_is_given_to_it_is_its_input_whether_it_reads_that_or_not() {
        let much = vec![b'x'; 1 << 20];
        for (script, expected) in [("wc -c", "1048576"), ("echo done", "done")] {
            let ran = on_runtime(program(script, &much).run(Instant::now() + PATIENT));
            assert_eq!((said(&ran).as_str(), code(&ran)), (expected, Some(0)));
        }
    }

    #[test]
    fn one_that_says_more_than_is_kept_is_not_blocked() {
        let ran = run("head -c 3000000 /dev/zero", PATIENT);
        assert_eq!((ran.output.len(), code(&ran)), (OUTPUT, Some(0)));
    }

    #[test]
    fn at_the_deadline_the_whole_group_dies_and_is_reaped() {
        on_runtime(async {
            let script = "echo $$; sleep 1000 & echo $!; wait";
            let ran = program(script, b"").run(Instant::now() + Duration::from_millis(500)).await;
            assert!(matches!(ran.end, End::Overdue));
            let pids = said(&ran);
            assert_eq!(pids.lines().count(), 2, "it ran before the deadline: {pids}");
            pids.lines().for_each(is_gone);
        });
    }

    #[test]
    fn what_it_leaves_behind_dies_with_it() {
        let ran = run("sleep 1000 & echo $!", PATIENT);
        assert_eq!(code(&ran), Some(0));
        is_gone(&said(&ran));
    }

    #[test]
    fn what_has_left_the_group_and_holds_the_output_holds_nobody() {
        // It says when it has left; the shell is gone as soon as it hears of it.
        let leaver = "setsid sh -c \"echo \\$\\$; kill -USR1 $$; exec sleep 1000\"";
        let ran = run(&format!("trap 'exit 0' USR1; {leaver} & while :; do wait; done"), PATIENT);
        assert_eq!(code(&ran), Some(0));
        let pid: i32 = said(&ran).parse().expect("it said its number");
        rustix::process::kill_process(Pid::from_raw(pid).expect("a number"), Signal::KILL).expect("it lives on");
    }

    #[test]
    fn to_drop_it_is_to_kill_it() {
        on_runtime(async {
            let (mark, folder) = (format!("evenkeel-{}", std::process::id()), std::env::temp_dir());
            let file = folder.join(mark);
            let script = format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 1000", file.display());
            let running = tokio::spawn(program(&script, b"").run(Instant::now() + PATIENT));
            while !file.exists() {
                tokio::task::yield_now().await;
            }
            running.abort();
            assert!(running.await.is_err_and(|error| error.is_cancelled()));
            let pid = std::fs::read_to_string(&file).expect("it was written whole");
            std::fs::remove_file(&file).expect("it is ours");
            is_gone(pid.trim());
        });
    }

    #[test]
    fn what_cannot_be_started_says_why() {
        let table = [("/nonexistent/check", 2), ("/etc/passwd", 13), ("/", 13)];
        for (word, errno) in table {
            let program = Program { words: [word.to_owned()].into(), environment: Vec::new(), input: Vec::new() };
            let ran = on_runtime(program.run(Instant::now() + PATIENT));
            let End::NotStarted(error) = ran.end else { panic!("{word} was started") };
            assert_eq!(error.raw_os_error(), Some(errno), "{word}");
        }
    }
}
