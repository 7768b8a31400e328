"""DeepSeek-V3 as pairs of functions: what each equation computes, and its gradient, side by side in one file.

A forward takes a machine, its input and its weights, and returns its result and a NamedTuple of what its
backward needs; the backward takes the gradient of the result and gives those of input and weights. There are
no layer objects. Arrays carry the report's symbols; N = B T tokens stand in one axis, sequence after
sequence.

Reading order: parameters, rope, mla, comparators, gate, experts, block, mtp, transformer.

    >>> from minidsv3.model.parameters import Parameters
    >>> from minidsv3.config import ModelConfig
    >>> len(Parameters(ModelConfig.preset("mini")))
    325

Next: minidsv3.model.parameters
"""
