//! By tiles of AMX: `tdpbf16ps` computes a group of 16 rows and 16 entries, the chains of even and of odd terms apart, and
//! adds their sum to what the tile has. There are no intrinsics of it in stable Rust, so it is assembly.

#[cfg(target_os = "linux")]
#[cfg(test)]
mod emulated;

use std::arch::asm;
use std::sync::LazyLock;

use super::super::super::product::MatrixView;
use super::super::matrix::GROUP;
use super::dots::Dots;
use super::kernel::{Bf16Block, Bf16Kernel, LANES, WIDTH, WORDS};
use super::words::by_rows;

/// Rows of a tile, and bytes of a row of it.
const HEIGHT: usize = 16;
const LINE: usize = 64;

/// A processor and a system that let this process use tiles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiles(Dots);

impl Tiles {
    /// Rows from which on tiles are faster, which compute sixteen.
    pub(crate) const WORTH: usize = 12;

    pub(crate) fn detect(dots: Dots) -> Option<Self> {
        static USABLE: LazyLock<bool> = LazyLock::new(|| has_tiles() && permitted());
        USABLE.then_some(Self(dots))
    }

    /// Where the processor has none, tiles whose instructions the test process emulates.
    #[cfg(test)]
    pub(crate) fn emulated(dots: Dots) -> Option<Self> {
        #[cfg(target_os = "linux")]
        if !has_tiles() {
            emulated::start();
            return Some(Self(dots));
        }
        let _ = dots;
        None
    }
}

/// Whether the processor has tiles of bf16.
fn has_tiles() -> bool {
    const BF16_AND_TILES: u32 = 1 << 22 | 1 << 24;
    std::arch::x86_64::__cpuid_count(7, 0).edx & BF16_AND_TILES == BF16_AND_TILES
}

/// Asks Linux for the registers, which it saves for processes that did only. What is asked is of the whole process.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let refused: i64;
    // SAFETY: the call changes no memory of ours, and all that it changes of the registers is said.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => refused,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    refused == 0
}

/// How other systems give leave is not known here.
#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

impl Bf16Kernel for Tiles {
    const ROWS: usize = 2 * HEIGHT;
    const SLICE: usize = 20;
    const PANELS: usize = 4;
    const WORTH_A_THREAD: usize = 1 << 22;
    const ORDER: Option<&[u16; GROUP]> = None;

    /// Row by row: what two tiles have.
    fn put_strip(self, to: &mut [u32], rows: MatrixView<'_>) {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
        fn put(to: &mut [u32], rows: MatrixView<'_>) {
            let (lines, _) = to.as_chunks_mut::<WORDS>();
            for (group, lines) in lines.chunks_exact_mut(Tiles::ROWS).enumerate() {
                for (tile, lines) in lines.chunks_exact_mut(HEIGHT).enumerate() {
                    let first = (tile * HEIGHT).min(rows.rows);
                    let rows = rows.rows(first, HEIGHT.min(rows.rows - first));
                    for (line, words) in lines.iter_mut().zip(by_rows::<Tiles>(rows, group * GROUP)) {
                        // SAFETY: sixteen numbers.
                        unsafe { std::arch::x86_64::_mm512_storeu_si512(line.as_mut_ptr().cast(), words) };
                    }
                }
            }
        }
        // SAFETY: there is a `Dots`, which has found the instructions.
        unsafe { put(to, rows) }
    }

    fn during<R>(self, work: impl FnOnce() -> R) -> R {
        let shapes = Shapes::of_whole_tiles();
        // SAFETY: the process may use tiles; the compiler does not use them.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
        let done = work();
        // SAFETY: as above. Where the work panics, tiles stay as they are, which hurts nobody.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
        done
    }

    unsafe fn sums(self, left: &[u32], right: &[[u32; WIDTH]], block: Bf16Block) {
        // SAFETY: as the caller promises.
        unsafe { sums(left, right, block) };
    }
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_a_row: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    fn of_whole_tiles() -> Self {
        let (mut bytes_a_row, mut rows) = ([0; 16], [0; 16]);
        bytes_a_row[..8].fill(LINE as u16);
        rows[..8].fill(HEIGHT as u8);
        Self { palette: 1, start_row: 0, reserved: [0; 14], bytes_a_row, rows }
    }
}

/// Sums of a block, put where they belong.
///
/// # Safety
/// The block lies there, and shapes of whole tiles are loaded.
unsafe fn sums(left: &[u32], right: &[[u32; WIDTH]], block: Bf16Block) {
    let Bf16Block { at, stride, rows, width, add } = block;
    if rows == Tiles::ROWS && width == WIDTH {
        // SAFETY: as the caller promises.
        return unsafe { whole(left, right, (at, stride), add) };
    }
    let mut sums = [[0.0f32; WIDTH]; Tiles::ROWS];
    let row = |row: usize| at.wrapping_add(row * stride);
    // SAFETY: `width` entries of `rows` rows lie at the address; before the first sums nothing is read there.
    unsafe {
        if add {
            for (at, sums) in sums.iter_mut().enumerate().take(rows) {
                sums.as_mut_ptr().copy_from_nonoverlapping(row(at), width);
            }
        }
        whole(left, right, (sums.as_mut_ptr().cast(), WIDTH), add);
        for (at, sums) in sums.iter().enumerate().take(rows) {
            row(at).copy_from_nonoverlapping(sums.as_ptr(), width);
        }
    }
}

/// Sums of two tiles' height and width.
///
/// # Safety
/// So many rows and entries lie there, and shapes of whole tiles are loaded.
unsafe fn whole(left: &[u32], right: &[[u32; WIDTH]], (to, stride): (*mut f32, usize), add: bool) {
    const { assert!(WORDS == HEIGHT && size_of::<[u32; LANES]>() == LINE) };
    let groups = right.len() / WORDS;
    assert!(groups > 0 && left.len() == groups * Tiles::ROWS * WORDS, "both factors have the same groups");
    // SAFETY: the loop reads two tiles of either factor for each group, as many as the slices have; four tiles lie at the
    // target. All registers that change are said.
    unsafe {
        asm!(
            "test {add:e}, {add:e}",
            "jnz 2f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "jmp 3f",
            "2:",
            "tileloadd tmm0, [{upper} + {stride}]",
            "tileloadd tmm1, [{upper} + {stride} + 64]",
            "tileloadd tmm2, [{lower} + {stride}]",
            "tileloadd tmm3, [{lower} + {stride} + 64]",
            "3:",
            "tileloadd tmm4, [{left} + {line}]",
            "tileloadd tmm6, [{right} + {two_lines}]",
            "tileloadd tmm7, [{right} + {two_lines} + 64]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{left} + {line} + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {left}, 2048",
            "add {right}, 2048",
            "dec {groups}",
            "jnz 3b",
            "tilestored [{upper} + {stride}], tmm0",
            "tilestored [{upper} + {stride} + 64], tmm1",
            "tilestored [{lower} + {stride}], tmm2",
            "tilestored [{lower} + {stride} + 64], tmm3",
            left = inout(reg) left.as_ptr() => _,
            right = inout(reg) right.as_ptr() => _,
            groups = inout(reg) groups => _,
            upper = in(reg) to,
            lower = in(reg) to.wrapping_add(HEIGHT * stride),
            stride = in(reg) stride * size_of::<f32>(),
            line = in(reg) LINE,
            two_lines = in(reg) 2 * LINE,
            add = in(reg) u32::from(add),
            out("tmm0") _,
            out("tmm1") _,
            out("tmm2") _,
            out("tmm3") _,
            out("tmm4") _,
            out("tmm5") _,
            out("tmm6") _,
            out("tmm7") _,
            options(nostack),
        );
    }
}
