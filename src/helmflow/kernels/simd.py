"""A SIMD value type for numba: eight float64 numbers handled as one.

Inside an ``njit`` function a ``Vector`` supports ``+ - * /``, unary minus and ``<``, with another
vector or with a scalar, and the functions below. Kernels written with it read like scalar code
and compile to the vector instructions of the machine (LLVM splits the vectors where they are
narrower). Each lane holds one configuration of a batch, so lanes never need to talk.

``load``, ``store`` and ``item`` check neither bounds nor strides: the array must be
one-dimensional, contiguous and, for vectors, float64. Callers enforce that once, outside.

No fast-math flag is used that changes the meaning of NaN, infinity or the order of a sum.
"""

import operator
from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.core.typing import templates
from numba.core.typing.templates import AbstractTemplate, signature
from numba.extending import lower_builtin, models, register_model

LANES = 8

LOG2_E = 1.4426950408889634
"""Turns the exponent of e into that of 2, for `exp2`."""

INNER = {"nogil": True, "error_model": "numpy", "boundscheck": False}
"""Compiler options of functions that kernels call. Only kernels that Python calls are kept on
disk, by `helmflow.kernels.cache.entry`."""

INLINE = {**INNER, "forceinline": True}
"""Options of small functions of SIMD values."""

# Its inferred type says that it may return None.
infer_global = cast(Any, templates.infer_global)


def intrinsic(emitter: Callable) -> Callable[..., Any]:
    """Numba's `intrinsic`, typed: calls leave out the typing context that ``emitter`` takes."""
    return extending.intrinsic(emitter)


_DOUBLE = ir.DoubleType()
_INT = ir.IntType(64)
_VECTOR = ir.VectorType(_DOUBLE, LANES)
_INTS = ir.VectorType(_INT, LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)
_FLAGS = ("contract", "arcp", "nsz")


class VectorType(types.Type):
    """Type of ``LANES`` float64 numbers."""

    def __init__(self) -> None:
        super().__init__(name=f"Vector{LANES}")


class MaskType(types.Type):
    """Type of ``LANES`` truth values."""

    def __init__(self) -> None:
        super().__init__(name=f"Mask{LANES}")


vector = VectorType()
mask = MaskType()


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: types.Type) -> None:
        super().__init__(manager, numba_type, _VECTOR)


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: types.Type) -> None:
        super().__init__(manager, numba_type, _BITS)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_VECTOR, [_DOUBLE(value)] * LANES)


def _splat(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [ir.IntType(32)(0)] * LANES)
    first = builder.insert_element(undefined, value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, undefined, zeros)


def _as_vector(context: Any, builder: ir.IRBuilder, value: ir.Value, kind: types.Type) -> ir.Value:
    if isinstance(kind, VectorType):
        return value
    return _splat(builder, context.cast(builder, value, kind, types.float64))


def _operand(kind: types.Type) -> types.Type | None:
    if isinstance(kind, VectorType):
        return vector
    return types.float64 if isinstance(kind, types.Number) else None


def _register(python_operator: Callable, result: types.Type, emit: Callable) -> None:
    """Teach numba ``python_operator(vector or scalar, vector or scalar)``."""

    class Template(AbstractTemplate):
        def generic(self, args: tuple, kws: dict) -> Any:
            if len(args) != 2 or vector not in args:
                return None
            left, right = _operand(args[0]), _operand(args[1])
            return None if left is None or right is None else signature(result, left, right)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> ir.Value:
        left = _as_vector(context, builder, args[0], sig.args[0])
        right = _as_vector(context, builder, args[1], sig.args[1])
        return emit(builder, left, right)

    infer_global(python_operator)(Template)
    for kinds in (
        (VectorType, VectorType),
        (VectorType, types.Float),
        (types.Float, VectorType),
    ):
        lower_builtin(python_operator, *kinds)(lower)


def _register_arithmetic() -> None:
    for name, instruction in (
        ("add", "fadd"),
        ("sub", "fsub"),
        ("mul", "fmul"),
        ("truediv", "fdiv"),
    ):

        def emit(b: ir.IRBuilder, x: ir.Value, y: ir.Value, op: str = instruction) -> ir.Value:
            return getattr(b, op)(x, y, flags=_FLAGS)

        _register(getattr(operator, name), vector, emit)
        _register(getattr(operator, f"i{name}"), vector, emit)
    _register(operator.lt, mask, lambda b, x, y: b.fcmp_ordered("<", x, y))


_register_arithmetic()


@infer_global(operator.neg)
class _Negation(AbstractTemplate):
    def generic(self, args: tuple, kws: dict) -> Any:
        return signature(vector, vector) if args == (vector,) else None


@lower_builtin(operator.neg, VectorType)
def _lower_negation(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
    return builder.fneg(args[0])


def _element(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
    data = context.make_array(sig.args[0])(context, builder, args[0]).data
    return builder.gep(data, [args[1]])


@intrinsic
def load(typing_context, array, index):
    """The vector at ``array[index : index + LANES]``."""

    def emit(context, builder, sig, args):
        pointer = _element(context, builder, sig, args)
        return builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()), align=8)

    return vector(array, types.int64), emit


@intrinsic
def store(typing_context, array, index, value):
    """Write a vector to ``array[index : index + LANES]``."""

    def emit(context, builder, sig, args):
        pointer = _element(context, builder, sig, args)
        builder.store(args[2], builder.bitcast(pointer, _VECTOR.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), emit


@intrinsic
def item(typing_context, array, index):
    """The scalar ``array[index]``; negative indices do not wrap around."""

    def emit(context, builder, sig, args):
        return builder.load(_element(context, builder, sig, args))

    return array.dtype(array, types.int64), emit


@intrinsic
def splat(typing_context, value):
    """The vector whose lanes all hold ``value``."""

    def emit(context, builder, sig, args):
        return _splat(builder, args[0])

    return vector(types.float64), emit


@intrinsic
def select(typing_context, condition, if_true, if_false):
    """Lane by lane ``if_true`` where the mask holds, else ``if_false``; scalars are spread."""

    def emit(context, builder, sig, args):
        first = _as_vector(context, builder, args[1], sig.args[1])
        second = _as_vector(context, builder, args[2], sig.args[2])
        return builder.select(args[0], first, second)

    return vector(mask, _operand(if_true), _operand(if_false)), emit


@intrinsic
def any_lane(typing_context, condition):
    """True when the mask holds in at least one lane."""

    def emit(context, builder, sig, args):
        bits = ir.IntType(LANES)
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], bits), bits(0))

    return types.boolean(mask), emit


@intrinsic
def largest_lane(typing_context, value):
    """The largest of the lanes; unspecified when one of them is NaN."""

    def emit(context, builder, sig, args):
        lanes = [builder.extract_element(args[0], ir.IntType(32)(k)) for k in range(LANES)]
        while len(lanes) > 1:
            lanes = [
                builder.select(builder.fcmp_ordered(">", a, b), a, b)
                for a, b in zip(lanes[::2], lanes[1::2], strict=True)
            ]
        return lanes[0]

    return types.float64(vector), emit


def _call(builder: ir.IRBuilder, name: str, *args: ir.Value) -> ir.Value:
    # llvmlite cannot declare intrinsics on vector types, hence the function by its full name.
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(args))
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f64")
    return builder.call(function, args)


@intrinsic
def sqrt(typing_context, value):
    """Lane-wise square root."""

    def emit(context, builder, sig, args):
        return _call(builder, "sqrt", args[0])

    return vector(vector), emit


@intrinsic
def nearest_integer(typing_context, value):
    """Lane-wise rounding, halves to the even integer."""

    def emit(context, builder, sig, args):
        return _call(builder, "rint", args[0])

    return vector(vector), emit


# 2**f on |f| <= 1/2, interpolated at Chebyshev points; relative error 2e-17.
_EXP2 = (
    1.0,
    0.6931471805599453,
    0.2402265069591016,
    0.055504108664821625,
    0.009618129107587223,
    0.0013333558146406453,
    0.00015403530463766596,
    1.5252733841579287e-05,
    1.3215432514189648e-06,
    1.017805707615539e-07,
    7.074198158791346e-09,
    4.4558199665721414e-10,
)
# Adding 1.5 * 2**52 leaves the nearest integer in the low bits of the sum.
_SHIFT = 6755399441055744.0
_EXPONENT = 52


@intrinsic
def exp2(typing_context, value):
    """Lane-wise power of two, for finite ``value`` within [-1021, 1023]; unspecified outside."""

    def emit(context, builder, sig, args):
        def fma(x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
            return _call(builder, "fmuladd", x, y, z)

        shifted = builder.fadd(args[0], _constant(_SHIFT))
        f = builder.fsub(args[0], builder.fsub(shifted, _constant(_SHIFT)))

        # Estrin's scheme: pairs, then pairs of pairs; shorter chains than Horner's.
        f2 = builder.fmul(f, f)
        f4 = builder.fmul(f2, f2)
        a = [fma(f, _constant(_EXP2[i + 1]), _constant(_EXP2[i])) for i in range(0, 12, 2)]
        b = [fma(f2, a[i + 1], a[i]) for i in range(0, 6, 2)]
        p = fma(builder.fmul(f4, f4), b[2], fma(f4, b[1], b[0]))

        # The integer, moved into the exponent of p.
        bits = ir.Constant(_INTS, [_INT(_EXPONENT)] * LANES)
        exponent = builder.shl(builder.bitcast(shifted, _INTS), bits)
        return builder.bitcast(builder.add(builder.bitcast(p, _INTS), exponent), _VECTOR)

    return vector(vector), emit


@intrinsic
def split_exponent(typing_context, value):
    """(e, m) with value = m 2**e and 1 <= m < 2, lane by lane, for positive normal numbers."""

    def emit(context, builder, sig, args):
        def every(bits: int) -> ir.Constant:
            return ir.Constant(_INTS, [_INT(bits)] * LANES)

        bits = builder.bitcast(args[0], _INTS)
        # An integer below 2**52 in the low bits of 2**52 is a sum, and cheaper than a conversion.
        shifted = builder.or_(builder.lshr(bits, every(_EXPONENT)), every(0x433 << _EXPONENT))
        exponent = builder.fsub(builder.bitcast(shifted, _VECTOR), _constant(2.0**52 + 1023.0))
        digits = builder.and_(bits, every((1 << _EXPONENT) - 1))
        mantissa = builder.bitcast(builder.or_(digits, every(0x3FF << _EXPONENT)), _VECTOR)
        return context.make_tuple(builder, sig.return_type, (exponent, mantissa))

    return types.UniTuple(vector, 2)(vector), emit


square = types.UniTuple(vector, LANES)


@intrinsic
def load_rows(typing_context, array, start, stride):
    """``LANES`` vectors, at ``start``, ``start + stride``, and so on."""

    def emit(context, builder, sig, args):
        rows, index = [], args[1]
        for _ in range(LANES):
            pointer = _element(context, builder, sig, (args[0], index))
            rows.append(builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()), align=8))
            index = builder.add(index, args[2])
        return context.make_tuple(builder, sig.return_type, rows)

    return square(array, types.int64, types.int64), emit


@intrinsic
def store_rows(typing_context, array, start, stride, rows):
    """Write ``LANES`` vectors at ``start``, ``start + stride``, and so on."""

    def emit(context, builder, sig, args):
        index = args[1]
        for row in cgutils.unpack_tuple(builder, args[3]):
            pointer = _element(context, builder, sig, (args[0], index))
            builder.store(row, builder.bitcast(pointer, _VECTOR.as_pointer()), align=8)
            index = builder.add(index, args[2])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, square), emit


@intrinsic
def transpose(typing_context, rows):
    """``LANES`` vectors with lanes and positions exchanged."""

    def emit(context, builder, sig, args):
        half = LANES // 2
        low = [k + j * LANES for k in range(half) for j in range(2)]
        masks = [
            ir.Constant(ir.VectorType(ir.IntType(32), LANES), [ir.IntType(32)(i) for i in order])
            for order in (low, [k + half for k in low])
        ]
        lanes = cgutils.unpack_tuple(builder, args[0])
        # Interleaving the first half with the second, log2(LANES) times, is a transposition.
        for _ in range(LANES.bit_length() - 1):
            lanes = [
                builder.shuffle_vector(lanes[k], lanes[k + half], order)
                for k in range(half)
                for order in masks
            ]
        return context.make_tuple(builder, sig.return_type, lanes)

    return square(square), emit
