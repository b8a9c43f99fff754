"""A SIMD value of sixteen floats for kernels: LLVM's <16 x float>, on whatever registers the CPU has.

Numba compiles plain loops so that every partial result goes through memory; a value of this type stays in registers.
LLVM lowers it to one register of AVX-512, two of AVX2 or four of NEON; the order of operations is the same on all.

    x = load(row, 0)            # row: a contiguous float32 array of any rank, indexed as if flat; 0: its first element
    store(row, 16, fma(x, splat(0.5), load(row, 16)))
    total(x * y)                # + - * work on these values too
"""

from __future__ import annotations

import contextlib
import hashlib
import operator
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils, typing
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import intrinsic as numba_intrinsic
from numba.extending import lower_builtin, models, register_model

from omnivec.files import cache_folder

LANES = 16
"""Floats per value; rows of tables are padded to a multiple of it."""

USED = ".writable"
"""A file in a folder of machine code, touched by each process that starts to use it."""
KEPT_DAYS = 30
"""Days for which machine code of other versions is kept after its last use."""

FLOAT = ir.FloatType()
VECTOR = ir.VectorType(FLOAT, LANES)
INTEGERS = ir.VectorType(ir.IntType(32), LANES)
BLOCK = ir.VectorType(ir.IntType(8), 64)

F = TypeVar("F", bound=Callable[..., Any])
intrinsic = cast(Callable[[Callable[..., Any]], Callable[..., Any]], numba_intrinsic)


def compiled(function: F) -> F:
    """Compiles a kernel at its first call, to run without the GIL, and caches the machine code on disk.

    The cache is a folder named after a digest of all kernels, in omnivec's cache and not beside the source, because
    Numba does not notice when a kernel in another file, which this one calls, has changed. NUMBA_CACHE_DIR is
    respected. If nothing can be written, every process compiles again.
    """
    return _compiled(function)


def lean(function: F) -> F:
    """`compiled` without reference counting, for a kernel that neither allocates arrays nor calls one that does.

    Numba counts references with atomic operations whenever an array is taken from a named tuple, which was five sixths
    of the time of scanning a text.
    """
    return _compiled(function, counted=False)


def inlined(function: F) -> F:
    """`lean`, and inlined by Numba into its callers: a call would pass each array as seven numbers on the stack."""
    return _compiled(function, counted=False, inline="always")


def shared(function: F) -> F:
    """`lean`, and inlined by LLVM, not Numba: a kernel with many callers is then type-checked once, not in each."""
    return _compiled(function, counted=False, forced=True)


def _compiled(
    function: F, counted: bool = True, inline: Literal["never", "always"] = "never", forced: bool = False
) -> F:
    stated = numba.config.CACHE_DIR
    if not stated:
        numba.config.CACHE_DIR = _machine_code()
    try:
        cache = bool(numba.config.CACHE_DIR)
        compiler = numba.njit(
            nogil=True,
            error_model="numpy",
            cache=cache,
            no_cfunc_wrapper=True,
            inline=inline,
            forceinline=forced,
            _nrt=counted,
        )
        made = compiler(function)
        if (
            cache
        ):  # if machine code cannot be stored (a full disk) or is damaged, compile again instead of failing
            made._cache._guard_against_spurious_io_errors = lambda: contextlib.suppress(Exception)
        return cast(F, made)
    finally:
        numba.config.CACHE_DIR = stated


def _machine_code() -> str:
    """The folder of the machine code of this version of the kernels; "" if it cannot be created."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    folder = cache_folder() / "numba" / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / USED).touch()
    except OSError:
        return ""
    _remove_old(folder)
    return str(folder)


def _remove_old(current: Path) -> None:
    """Removes the machine code of other versions that no process has started to use for KEPT_DAYS.

    This does not harm a process that still runs one: it has loaded its code, or Numba compiles and stores it again.
    """
    oldest = time.time() - KEPT_DAYS * 86_400
    for folder in current.parent.iterdir():
        with contextlib.suppress(OSError):
            if folder != current and (folder / USED).stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)


class Vector(types.Type):  # type: ignore[misc, unused-ignore]
    """Numba's type of the value."""

    def __init__(self) -> None:
        super().__init__("float32x16")


f32x16 = Vector()


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc, unused-ignore]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)


def _address(target: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    data = target.make_array(kind)(target, builder, array).data
    return builder.gep(data, [offset])


def _is_floats(array: Any) -> bool:
    return isinstance(array, types.Array) and array.dtype == types.float32 and array.layout == "C"


@intrinsic
def load(context: Any, array: Any, offset: Any) -> Any:
    """The sixteen floats that begin at a flat index of a contiguous float32 array."""

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _address(target, builder, array, *arguments)
        return builder.load(builder.bitcast(place, VECTOR.as_pointer()), align=4)

    return (f32x16(array, types.int64), emit) if _is_floats(array) else None


@intrinsic
def store(context: Any, array: Any, offset: Any, value: Any) -> Any:
    """Writes sixteen floats from a flat index of a contiguous float32 array on."""

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _address(target, builder, array, *arguments[:2])
        builder.store(arguments[2], builder.bitcast(place, VECTOR.as_pointer()), align=4)
        return target.get_dummy_value()

    return (types.void(array, types.int64, f32x16), emit) if _is_floats(array) else None


@intrinsic
def prefetch(context: Any, array: Any, offset: Any) -> Any:
    """Prefetches the cache line of a flat index of a contiguous array of any dtype, for reading and writing."""

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        place = builder.bitcast(_address(target, builder, array, *arguments), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [place, number(1), number(3), number(1)])
        return target.get_dummy_value()

    return types.void(array, types.int64), emit


@intrinsic
def splat(context: Any, value: Any) -> Any:
    """The same float in all sixteen lanes."""

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), arguments[0], ir.IntType(32)(0))
        return builder.shuffle_vector(
            one, ir.Constant(VECTOR, ir.Undefined), ir.Constant(INTEGERS, [0] * LANES)
        )

    return f32x16(types.float32), emit


@intrinsic
def fma(context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c."""

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "llvm.fmuladd.v16f32", *arguments)

    return f32x16(f32x16, f32x16, f32x16), emit


@intrinsic
def total(context: Any, value: Any) -> Any:
    """The sum of the sixteen floats, by adding halves, in the same order on every CPU."""

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (part,) = arguments
        for half in (8, 4, 2, 1):
            low, high = (_pick(builder, part, part, range(at, at + half)) for at in (0, half))
            part = builder.fadd(low, high)
        return builder.extract_element(part, ir.IntType(32)(0))

    return types.float32(f32x16), emit


@intrinsic
def fold(context: Any, a: Any, b: Any) -> Any:
    """Pairwise sums of neighbouring lanes: eight sums of `a`, then eight of `b` (a horizontal add).

    Four rounds of it reduce sixteen values to one that holds their sixteen totals, in order, with a third of the work
    of sixteen `total`s.
    """

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        even, odd = (_pick(builder, arguments[0], arguments[1], range(at, 2 * LANES, 2)) for at in (0, 1))
        return builder.fadd(even, odd)

    return f32x16(f32x16, f32x16), emit


@intrinsic
def sigmoid(context: Any, value: Any) -> Any:
    """1 / (1 + exp(-x)) of each float, to a relative error of about 1e-6 for |x| < 80."""

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def constant(number: float) -> Any:
            return ir.Constant(VECTOR, [number] * LANES)

        limited = _call(builder, "llvm.minnum.v16f32", arguments[0], constant(80.0))
        limited = _call(builder, "llvm.maxnum.v16f32", limited, constant(-80.0))
        power = builder.fmul(limited, constant(-1.4426950408889634))  # exp(-x) = 2 ** power
        whole = _call(builder, "llvm.rint.v16f32", power)
        rest = builder.fsub(
            power, whole
        )  # within -0.5 to 0.5, where seven terms of the series of 2 ** rest suffice
        result = constant(SERIES[-1])
        for term in SERIES[-2::-1]:
            result = _call(builder, "llvm.fmuladd.v16f32", result, rest, constant(term))
        exponent = builder.add(builder.fptosi(whole, INTEGERS), ir.Constant(INTEGERS, [127] * LANES))
        scale = builder.bitcast(builder.shl(exponent, ir.Constant(INTEGERS, [23] * LANES)), VECTOR)
        denominator = builder.fadd(builder.fmul(result, scale), constant(1.0))
        return builder.fdiv(constant(1.0), denominator)

    return f32x16(f32x16), emit


# ln(2) ** n / n!
SERIES = (
    1.0,
    0.6931471805599453,
    0.2402265069591007,
    0.05550410866482158,
    0.009618129107628477,
    0.0013333558146428443,
    0.00015403530393381608,
)


@intrinsic
def read8(context: Any, array: Any, offset: Any) -> Any:
    """The eight bytes from an index of a uint8 array on, as one little-endian number."""

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _address(target, builder, array, *arguments)
        return builder.load(builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(array, types.int64), emit


@intrinsic
def blanks(context: Any, array: Any, offset: Any, spaces: Any) -> Any:
    """Which of 64 bytes separate words, as a bit mask whose lowest bit is the first byte.

    Separators are bytes above 0xFD, which do not occur in UTF-8, and if `spaces` is true also `whitespace.BLANKS`:
    9 to 13, 32 and 0.
    """

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def constant(number: int) -> Any:
            return ir.Constant(BLOCK, [number] * 64)

        place = _address(target, builder, array, *arguments[:2])
        text = builder.load(builder.bitcast(place, BLOCK.as_pointer()), align=1)
        control = builder.icmp_unsigned("<", builder.sub(text, constant(9)), constant(5))
        white = builder.or_(control, builder.icmp_unsigned("==", text, constant(32)))
        white = builder.or_(white, builder.icmp_unsigned("==", text, constant(0)))
        white = builder.bitcast(white, ir.IntType(64))
        white = builder.select(arguments[2], white, ir.IntType(64)(0))
        other = builder.bitcast(builder.icmp_unsigned(">", text, constant(0xFD)), ir.IntType(64))
        return builder.or_(white, other)

    return types.uint64(array, types.int64, types.boolean), emit


@intrinsic
def lowest_bit(context: Any, number: Any) -> Any:
    """The index of the lowest set bit of a number; 64 for 0."""

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(0))

    return types.int64(types.uint64), emit


def _call(builder: Any, name: str, *arguments: Any) -> Any:
    kind = ir.FunctionType(VECTOR, [VECTOR] * len(arguments))
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _pick(builder: Any, a: Any, b: Any, places: range) -> Any:
    """Elements of two vectors, which are numbered consecutively: those of `a` first."""
    chosen = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), list(places))
    return builder.shuffle_vector(a, b, chosen)


def _operator(function: Any, instruction: str) -> None:
    """Defines a Python operator for two values, as an instruction of LLVM."""

    class Typed(ConcreteTemplate):  # type: ignore[misc, unused-ignore]
        key = function
        cases: ClassVar = [typing.signature(f32x16, f32x16, f32x16)]

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)

    infer_global(function)(Typed)
    lower_builtin(function, f32x16, f32x16)(emit)


for _function, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _operator(_function, _instruction)
