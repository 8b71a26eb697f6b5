"""The networks of the neural optimizer and its variants (Section 6.2) as linen modules.

Coordinates are last: (features, n). A CPU then vectorises over the coordinates, of which there are thousands, and not
over the few features.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

State = tuple[Float[Array, "h n"], Float[Array, "h n"]]


def uniform(hidden: int) -> Callable[[Array, tuple[int, ...]], Array]:
    """Uniform in +-1/sqrt(hidden), the usual start of recurrent layers."""
    bound = hidden**-0.5
    return lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)


class Dense(nn.Module):
    """Linear layer over the features of every coordinate."""

    features: int
    hidden: int
    """sets the range of the start"""
    bias: float | None = None
    """value of the bias at the start; None: random"""

    @nn.compact
    def __call__(self, x: Float[Array, "d n"]) -> Float[Array, "f n"]:
        draw = uniform(self.hidden)
        w = self.param("w", draw, (x.shape[0], self.features))
        start = draw if self.bias is None else nn.initializers.constant(self.bias)
        b = self.param("b", start, (self.features,))
        return w.T @ x + b[:, None]


class LSTMLayer(nn.Module):
    """One LSTM layer; gates in the order input, forget, cell, output."""

    hidden: int

    @nn.compact
    def __call__(self, carry: State, x: Float[Array, "d n"]) -> tuple[State, Float[Array, "h n"]]:
        h, cell = carry
        recurrent = self.param("h", uniform(self.hidden), (self.hidden, 4 * self.hidden))
        w = Dense(4 * self.hidden, self.hidden, name="x")
        gates = recurrent.T @ h + w(x)
        i, f, g, o = jnp.split(gates, 4)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (h, cell), h


class LSTM(nn.Module):
    """O of Eq. 11: two stacked LSTM layers, then the output layer."""

    hidden: int
    output_bias: float

    def start(self, n: int) -> tuple[State, State]:
        """Zeros."""
        zeros = jnp.zeros((self.hidden, n))
        return (zeros, zeros), (zeros, zeros)

    @nn.compact
    def __call__(
        self, carry: tuple[State, State], x: Float[Array, "d n"]
    ) -> tuple[tuple[State, State], Float[Array, "n"]]:
        first, x = LSTMLayer(self.hidden, name="layer0")(carry[0], x)
        second, x = LSTMLayer(self.hidden, name="layer1")(carry[1], x)
        return (first, second), Dense(1, self.hidden, self.output_bias, name="head")(x)[0]


class GRULayer(nn.Module):
    """One gated recurrent unit; gates in the order reset, update, new."""

    hidden: int

    @nn.compact
    def __call__(self, h: Float[Array, "h n"], x: Float[Array, "d n"]) -> Float[Array, "h n"]:
        xr, xz, xn = jnp.split(Dense(3 * self.hidden, self.hidden, name="x")(x), 3)
        hr, hz, hn = jnp.split(Dense(3 * self.hidden, self.hidden, name="h")(h), 3)
        update = jax.nn.sigmoid(xz + hz)
        return (1 - update) * jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn) + update * h


class GRU(nn.Module):
    """ROAM-GRU: two stacked gated recurrent units."""

    hidden: int
    output_bias: float

    def start(self, n: int) -> State:
        """Zeros."""
        return jnp.zeros((self.hidden, n)), jnp.zeros((self.hidden, n))

    @nn.compact
    def __call__(self, carry: State, x: Float[Array, "d n"]) -> tuple[State, Float[Array, "n"]]:
        first = GRULayer(self.hidden, name="layer0")(carry[0], x)
        second = GRULayer(self.hidden, name="layer1")(carry[1], first)
        return (first, second), Dense(1, self.hidden, self.output_bias, name="head")(second)[0]


class FC(nn.Module):
    """ROAM-FC: two fully connected layers with tanh, no memory."""

    hidden: int
    output_bias: float

    def start(self, n: int) -> tuple[()]:
        """Nothing."""
        del n
        return ()

    @nn.compact
    def __call__(self, carry: tuple[()], x: Float[Array, "d n"]) -> tuple[tuple[()], Float[Array, "n"]]:
        for name in ("layer0", "layer1"):
            x = jnp.tanh(Dense(self.hidden, self.hidden, name=name)(x))
        return carry, Dense(1, self.hidden, self.output_bias, name="head")(x)[0]
