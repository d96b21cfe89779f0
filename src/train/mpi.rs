//! Ranks that `mpirun` has started: how bytes go from one to another, and how it is noticed that one is gone.
//!
//! Waiting is asking again and again, with pauses: MPI's own waiting takes a processor, is not ended by a signal, and never
//! ends for a process that was killed. That processes are gone, the operating system says of those on the same machine,
//! and MPI, where it notices, of others. The launcher, too, ends all when one is lost, with a signal first.

use std::os::raw::{c_int, c_void};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mpi::environment::processor_name;
use mpi::ffi;
use mpi::traits::{Communicator, CommunicatorCollectives};
use mpi::{Threading, environment::Universe};
use rustix::process::{Pid, test_kill_process};

use super::error::TrainError;
use super::ranks::Ranks;

/// Of all messages: those between two ranks come in the order in which they are sent.
const TAG: c_int = 0;
/// Bytes of a message, which MPI counts in an `int`; what is longer is sent in parts.
const PART: usize = 1 << 30;
/// Questions in a row before there are pauses.
const EAGER: u32 = 200;
/// A pause between two questions.
const PAUSE: Duration = Duration::from_micros(100);
/// Time between two looks at whether the other process is there.
const LOOK: Duration = Duration::from_millis(50);

/// The processes on this machine whose end is noticed, with their ranks: of rank 0, all others; of others, rank 0.
type Watched = Vec<(usize, Pid)>;

/// Takes part in what `mpirun` has started; `asked` says whether this process was asked to stop.
///
/// # Errors
/// An MPI that does not begin.
pub(super) fn join(asked: impl Fn() -> bool + 'static) -> Result<Ranks, TrainError> {
    let (universe, _) =
        mpi::initialize_with_threading(Threading::Funneled).ok_or_else(|| TrainError::Mpi("MPI_Init_thread"))?;
    // Ended by `leave` alone: a process that fails must not wait for the others.
    std::mem::forget::<Universe>(universe);
    let world = mpi::topology::SimpleCommunicator::world();
    // SAFETY: MPI has begun, and both handles are its own.
    let set = unsafe { ffi::MPI_Comm_set_errhandler(ffi::RSMPI_COMM_WORLD, ffi::RSMPI_ERRORS_RETURN) };
    done(set, "MPI_Comm_set_errhandler")?;
    let (rank, count) = (world.rank() as usize, world.size() as usize);
    let host = blake3::hash(processor_name().unwrap_or_default().as_bytes());
    let host = u64::from_le_bytes(host.as_bytes()[..8].try_into().expect("a hash has 32 bytes"));
    let (mine, mut all) = ([host, u64::from(std::process::id())], vec![0; 2 * count]);
    world.all_gather_into(&mine[..], &mut all[..]);
    let watched = all.as_chunks::<2>().0.iter().enumerate().filter_map(|(other, &[on, id])| {
        let process = i32::try_from(id).ok().and_then(Pid::from_raw)?;
        let near = on == host && (rank == 0) != (other == 0) && test_kill_process(process).is_ok();
        near.then_some((other, process))
    });
    let (watched, asked) = (Rc::new(watched.collect::<Watched>()), Rc::new(asked));
    let (watched_too, asked_too) = (Rc::clone(&watched), Rc::clone(&asked));
    let send = move |rank: usize, bytes: Vec<u8>| {
        let mut bytes = bytes;
        for at in (0..bytes.len()).step_by(PART) {
            let part = bytes.len().min(at + PART) - at;
            let begin = |request: *mut ffi::MPI_Request, start: *mut c_void| {
                // SAFETY: the bytes live until the request is done, or for ever if it is not (`carried`).
                unsafe {
                    let world = ffi::RSMPI_COMM_WORLD;
                    ffi::MPI_Isend(start, part as c_int, ffi::RSMPI_UINT8_T, rank as c_int, TAG, world, request)
                }
            };
            bytes = carried(bytes, at, begin, rank, &|request| wait(request, rank, &watched_too, &*asked_too))?;
        }
        Ok(())
    };
    let receive = move |rank: usize, length: usize| {
        let mut bytes = vec![0; length];
        for at in (0..length).step_by(PART) {
            let part = length.min(at + PART) - at;
            let begin = |request: *mut ffi::MPI_Request, start: *mut c_void| {
                // SAFETY: as above, and nobody else reads or writes them meanwhile.
                unsafe {
                    let world = ffi::RSMPI_COMM_WORLD;
                    ffi::MPI_Irecv(start, part as c_int, ffi::RSMPI_UINT8_T, rank as c_int, TAG, world, request)
                }
            };
            bytes = carried(bytes, at, begin, rank, &|request| wait(request, rank, &watched, &*asked))?;
        }
        Ok(bytes)
    };
    Ok(Ranks::new(rank, count, Box::new(send), Box::new(receive)))
}

/// Begins to send or receive bytes from a place on, and gives them back once that is done.
fn carried(
    mut bytes: Vec<u8>,
    at: usize,
    begin: impl Fn(*mut ffi::MPI_Request, *mut c_void) -> c_int,
    rank: usize,
    wait: &dyn Fn(&mut ffi::MPI_Request) -> Result<(), TrainError>,
) -> Result<Vec<u8>, TrainError> {
    // SAFETY: the null request is a constant of MPI.
    let mut request = unsafe { ffi::RSMPI_REQUEST_NULL };
    let begun = done(begin(&mut request, bytes[at..].as_mut_ptr().cast()), "a message");
    let waited = begun.and_then(|()| wait(&mut request));
    match waited {
        Ok(()) => Ok(bytes),
        Err(error) => {
            // Nobody can take a message back for certain: whatever still comes must find its place.
            std::mem::forget(bytes);
            Err(match error {
                TrainError::Mpi(what) => TrainError::Lost { rank, message: format!("MPI reports that {what} failed") },
                error => error,
            })
        }
    }
}

/// Waits until a request to or from a rank is done.
fn wait(
    request: &mut ffi::MPI_Request,
    rank: usize,
    watched: &Watched,
    asked: &dyn Fn() -> bool,
) -> Result<(), TrainError> {
    let (mut asks, mut looked) = (0, Instant::now());
    loop {
        let mut flag = 0;
        // SAFETY: the request was begun and is not done; the status is not wanted.
        done(unsafe { ffi::MPI_Test(request, &mut flag, ffi::RSMPI_STATUS_IGNORE) }, "a message")?;
        if flag != 0 {
            return Ok(());
        }
        asks += 1;
        if asks < EAGER {
            std::thread::yield_now();
            continue;
        }
        std::thread::sleep(PAUSE);
        if looked.elapsed() < LOOK {
            continue;
        }
        looked = Instant::now();
        let gone = watched.iter().find(|(_, process)| test_kill_process(*process).is_err());
        if let Some((rank, process)) = gone {
            let message = format!("its process {} has ended", process.as_raw_nonzero());
            return Err(TrainError::Lost { rank: *rank, message });
        }
        // Rank 0 decides about stopping.
        if rank != 0 && asked() {
            return Err(TrainError::Interrupted(rank));
        }
    }
}

/// Ends MPI, once all ranks are to end.
pub(super) fn leave() {
    // SAFETY: it has begun, and no request is open.
    unsafe { ffi::MPI_Finalize() };
}

fn done(code: c_int, what: &'static str) -> Result<(), TrainError> {
    if code == ffi::MPI_SUCCESS as c_int { Ok(()) } else { Err(TrainError::Mpi(what)) }
}
