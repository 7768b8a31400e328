"""Work: FLOPs and numbers moved, as quantities that add up; and the few shapes that work comes in.

A `Work` counts numbers, not bytes, by kind (weights, activations, cache), and whole numbers (token ids,
chosen experts) apart, since those do not get narrower with the format; `.bytes(width)` makes bytes of them.
A `Pass` is a forward with its backward. The builders below say how each kind of operation is counted:

    a product  n x [in -> out]    2 n in out FLOPs; reads n in and the weights, writes n out;
                                  its backward is two products (Dgrad, Wgrad) over the same three arrays
    a norm, a SwiGLU, a softmax   a few FLOPs an element, forward and backward each its own number of passes

Does: counting rules. Does not: know the model (`minidsv3.cost.closed_form`).

    >>> one = products(5, (64, 8))
    >>> one.forward.matrix_flops, one.backward.matrix_flops, one.forward.bytes(4)
    (5120, 10240, {'weight': 2048, 'activation': 1440})

Next: minidsv3.cost.closed_form
"""

from dataclasses import dataclass, fields

__all__ = ["Pass", "Work", "elements", "matrices", "norm", "products", "swiglu"]

WHOLE_NUMBER_BYTES = 8  # an index


@dataclass(frozen=True)
class Work:
    """FLOPs, and numbers read or written."""

    matrix_flops: int = 0
    vector_flops: int = 0
    weights: int = 0
    activations: int = 0
    cache: int = 0
    indices: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __mul__(self, times: int) -> "Work":
        return Work(*(times * getattr(self, field.name) for field in fields(self)))

    def bytes(self, number_bytes: int) -> dict[str, int]:
        """Bytes by kind, as a trace names them; kinds that do not occur are left out."""
        moved = {
            "weight": self.weights * number_bytes,
            "activation": self.activations * number_bytes + self.indices * WHOLE_NUMBER_BYTES,
            "kv": self.cache * number_bytes,
        }
        return {kind: n for kind, n in moved.items() if n}


@dataclass(frozen=True)
class Pass:
    """A forward and the backward that belongs to it."""

    forward: Work = Work()
    backward: Work = Work()

    def __add__(self, other: "Pass") -> "Pass":
        return Pass(self.forward + other.forward, self.backward + other.backward)

    def __mul__(self, times: int) -> "Pass":
        return Pass(self.forward * times, self.backward * times)


def products(n: int, *widths: tuple[int, int], copies: int = 1) -> Pass:
    """Products of n rows with weight matrices.

    widths: (in, out) of each matrix. copies: of each matrix, among which the n rows are divided (experts).
    """
    weights = sum(wide * out for wide, out in widths)
    rows = sum(wide + out for wide, out in widths)
    forward = Work(matrix_flops=2 * n * weights, weights=copies * weights, activations=n * rows)
    return Pass(forward, forward * 2)


def matrices(m: int, k: int, n: int) -> Pass:
    """A product of two activations, [m, k] x [k, n]."""
    forward = Work(matrix_flops=2 * m * k * n, activations=m * k + k * n + m * n)
    return Pass(forward, forward * 2)


def elements(n: int, flops: tuple[int, int], passes: tuple[int, int]) -> Pass:
    """Work on n elements.  flops, passes over the elements: of the forward, of the backward."""
    forward, backward = (
        Work(vector_flops=f * n, activations=p * n) for f, p in zip(flops, passes, strict=True)
    )
    return Pass(forward, backward)


def norm(n: int, width: int) -> Pass:
    """RMSNorm of n rows.

    Forward 4 FLOPs an element; backward 7 for the input (reads d_y, x, gain) and 3 for the gain (d_y, x).
    """
    return elements(n * width, flops=(4, 10), passes=(2, 5)) + Pass(
        Work(weights=width), Work(weights=2 * width)
    )


def swiglu(n: int) -> Pass:
    """SiLU(gate) up over n elements; backward 6 and 2 FLOPs, reading d_y, gate, up and then d_y, gate."""
    return elements(n, flops=(6, 8), passes=(3, 7))
