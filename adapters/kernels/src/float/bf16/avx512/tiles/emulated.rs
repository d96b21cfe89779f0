//! The instructions of tiles on a processor that has none, for tests: it stops at each, and the handler of the signal does
//! to tiles in memory what the manual of the instruction says, and continues after it. Source: Intel 64 and IA-32
//! Architectures Software Developer's Manual, volume 2, "Intel AMX instruction reference".

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::sync::LazyLock;

use super::{HEIGHT, LINE};

/// Bytes of a tile, row by row.
type TileBytes = [[u8; LINE]; HEIGHT];

thread_local! {
    /// Tiles of a thread, if their shapes are loaded.
    static TILES: UnsafeCell<Option<[TileBytes; 8]>> = const { UnsafeCell::new(None) };
}

/// Has instructions of tiles emulated in this process from now on.
pub(super) fn start() {
    static STARTED: LazyLock<()> = LazyLock::new(|| {
        // SAFETY: the handler uses memory of its thread and what the instruction may use, and calls nothing that waits.
        let done = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = at_illegal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut())
        };
        assert_eq!(done, 0, "the signal must be handled");
    });
    LazyLock::force(&STARTED);
}

/// What to do at an instruction that the processor does not have. If it is none of tiles, the process ends as without us.
extern "C" fn at_illegal(signal: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the system hands over the state of the thread, which stays ours until we return; it stopped at an
    // instruction, whose addresses are those that the processor would use. Tiles are used here only.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let done = TileInstruction::read(registers).and_then(|instruction| {
            instruction.run(TILES.with(|tiles| &mut *tiles.get()))?;
            Some(instruction.length)
        });
        match done {
            Some(length) => registers[libc::REG_RIP as usize] += length,
            None => _ = libc::signal(signal, libc::SIG_DFL),
        }
    }
}

/// An instruction of tiles as it is encoded: `C4`, two bytes of VEX, the code, ModRM, and perhaps SIB and a displacement.
#[derive(Debug)]
struct TileInstruction {
    prefix: u8,
    code: u8,
    /// The registers of ModRM and of VEX.
    reg: usize,
    rm: usize,
    other: usize,
    memory: Option<TileOperand>,
    length: i64,
}

/// What an operand in memory says: where it begins, and how far apart rows are.
#[derive(Debug)]
struct TileOperand {
    at: *mut u8,
    stride: i64,
    /// Whether it says how far apart.
    has_rows: bool,
}

impl TileInstruction {
    /// # Safety
    /// An instruction lies where the registers say.
    unsafe fn read(registers: &[i64; 23]) -> Option<Self> {
        // SAFETY: as the caller promises; bytes are read as far as those before them say.
        let byte = |at: usize| unsafe { *(registers[libc::REG_RIP as usize] as *const u8).add(at) };
        let [extended, rest, code, modrm] = [1, 2, 3, 4].map(byte);
        // Neither wide operands nor wide registers.
        if byte(0) != 0xc4 || extended & 0x1f != 2 || rest & 0x84 != 0 {
            return None;
        }
        // Bits that VEX has inverted: of ModRM's first register, of the index, and of the base or ModRM's second register.
        let more = |bit: u8| usize::from(!extended >> bit & 1) << 3;
        let (reg, rm) = (usize::from(modrm >> 3 & 7) | more(7), usize::from(modrm & 7));
        let other = usize::from(!rest >> 3 & 15);
        let of = |length, rm, memory| Self { prefix: rest & 3, code, reg, rm, other, memory, length };
        let kind = modrm >> 6;
        if kind == 3 {
            return Some(of(5, rm | more(5), None));
        }
        let with_index = rm == 4;
        let (sib, after) = if with_index { (byte(5), 6) } else { (0x20 | modrm & 7, 5) };
        let base = usize::from(sib & 7) | more(5);
        let index = usize::from(sib >> 3 & 7) | more(6);
        let (displacement, length) = match kind {
            // Addresses without a base, or from the instruction on: nobody here makes them.
            0 if sib & 7 == 5 => return None,
            0 => (0, after),
            1 => (i64::from(byte(after).cast_signed()), after + 1),
            _ => (i64::from(i32::from_le_bytes([0, 1, 2, 3].map(|at| byte(after + at)))), after + 4),
        };
        let stride = if with_index && index != 4 { register(registers, index) << (sib >> 6) } else { 0 };
        let at = (register(registers, base) + displacement) as *mut u8;
        Some(of(length as i64, rm, Some(TileOperand { at, stride, has_rows: with_index })))
    }

    /// Does it, or says that it is none of these.
    ///
    /// # Safety
    /// Its operand lies where it says.
    unsafe fn run(&self, tiles: &mut Option<[TileBytes; 8]>) -> Option<()> {
        const NO_PREFIX: u8 = 0;
        const F3: u8 = 2;
        const F2: u8 = 3;
        // SAFETY: rows of an operand are so far apart.
        let row = |memory: &TileOperand, row: usize| unsafe { memory.at.offset((row as i64 * memory.stride) as isize) };
        match (self.prefix, self.code, &self.memory) {
            (NO_PREFIX, 0x49, Some(shapes)) if [self.reg, self.other] == [0; 2] => {
                // SAFETY: as the caller promises.
                let shapes = unsafe { shapes.at.cast::<[u8; 64]>().read_unaligned() };
                // Palette 1, and of each tile 64 bytes of 16 rows.
                let whole = (0..8).all(|tile| shapes[16 + 2 * tile..][..2] == [64, 0] && shapes[48 + tile] == 16);
                let rest = shapes[1..16].iter().chain(&shapes[32..48]).chain(&shapes[56..]).all(|&byte| byte == 0);
                (shapes[0] == 1 && whole && rest).then(|| *tiles = Some([[[0; LINE]; HEIGHT]; 8]))
            }
            (NO_PREFIX, 0x49, None) if [self.reg, self.rm, self.other] == [0; 3] => {
                *tiles = None;
                Some(())
            }
            (F2, 0x49, None) if [self.rm, self.other] == [0; 2] => {
                *tiles.as_mut()?.get_mut(self.reg)? = [[0; LINE]; HEIGHT];
                Some(())
            }
            (F2, 0x4b, Some(memory)) if memory.has_rows && self.other == 0 => {
                for (at, to) in tiles.as_mut()?.get_mut(self.reg)?.iter_mut().enumerate() {
                    // SAFETY: as the caller promises.
                    *to = unsafe { row(memory, at).cast::<[u8; LINE]>().read_unaligned() };
                }
                Some(())
            }
            (F3, 0x4b, Some(memory)) if memory.has_rows && self.other == 0 => {
                for (at, from) in tiles.as_ref()?.get(self.reg)?.iter().enumerate() {
                    // SAFETY: as the caller promises.
                    unsafe { row(memory, at).cast::<[u8; LINE]>().write_unaligned(*from) };
                }
                Some(())
            }
            (F3, 0x5c, None) if self.reg != self.rm && self.reg != self.other && self.rm != self.other => {
                let tiles = tiles.as_mut()?;
                let (left, right) = (*tiles.get(self.rm)?, *tiles.get(self.other)?);
                multiply(tiles.get_mut(self.reg)?, &left, &right);
                Some(())
            }
            _ => None,
        }
    }
}

/// A register by its number in an instruction.
fn register(registers: &[i64; 23], number: usize) -> i64 {
    use libc::*;
    let order = [
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11,
        REG_R12, REG_R13, REG_R14, REG_R15,
    ];
    registers[order[number] as usize]
}

/// `tdpbf16ps`: of each row and column the chain of products of lower halves, and that of upper ones, added to each other
/// and then to what is there. The right factor has a pair of its rows in a row. Subnormal numbers are zero.
fn multiply(to: &mut TileBytes, left: &TileBytes, right: &TileBytes) {
    let word = |row: &[u8; LINE], at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| row[4 * at + byte]));
    let normal = |x: f32| if x.is_subnormal() { 0.0f32.copysign(x) } else { x };
    let halves = |word: u32| [word << 16, word & 0xffff_0000].map(|bits| normal(f32::from_bits(bits)));
    for (to, left) in to.iter_mut().zip(left) {
        for column in 0..LINE / 4 {
            let [even, odd] = right.iter().enumerate().fold([0.0f32; 2], |chains, (at, right)| {
                let (a, b) = (halves(word(left, at)), halves(word(right, column)));
                [0, 1].map(|half| normal(a[half].mul_add(b[half], chains[half])))
            });
            let sum = normal(normal(f32::from_bits(word(to, column))) + normal(even + odd));
            to[4 * column..][..4].copy_from_slice(&sum.to_le_bytes());
        }
    }
}
