"""Optimised HLO text: shapes, layouts, instructions."""

# ruff: noqa: E501 (lines of HLO)

import pytest

from wcse_jax.aot import hlo


@pytest.mark.parametrize(
  ('text', 'size'),
  [
    ('f32[8,128]{1,0:T(8,128)}', 4096),
    # Filled up to tiles of 8 x 128, in the order of the layout.
    ('f32[3,100]{1,0:T(8,128)}', 8 * 128 * 4),
    ('f32[3,100]{0,1:T(8,128)}', 104 * 128 * 4),
    ('bf16[2,1000,256]{2,1,0:T(8,128)(2,1)}', 2 * 1000 * 256 * 2),
    ('s32[100]{0:T(128)}', 128 * 4),
    ('s32[]{:T(128)}', 4),
    ('pred[3,5]', 15),
    ('s4[16]{0}', 8),
    ('f8e4m3fn[16]{0}', 16),
    ('token[]', 0),
    # Not in HBM.
    ('f32[8,128]{1,0:T(8,128)S(1)}', 0),
  ],
)
def test_bytes_of_a_buffer(text, size):
  assert hlo.array(text).bytes == size


def test_unknown_type_is_refused():
  with pytest.raises(ValueError, match="got 'weird'"):
    hlo.array('weird[2]')


_TEXT = """
HloModule jit_f, is_scheduled=true

%fused (param_0: f32[8,128], param_1: s32[]) -> f32[128] {
  %param_0 = f32[8,128]{1,0:T(8,128)} parameter(0)
  %param_1 = s32[]{:T(128)} parameter(1)
  %zero = s32[] constant(-7)
  ROOT %cut.1 = f32[128]{0} dynamic-slice(%param_0, %param_1, %zero), dynamic_slice_sizes={1,128}
}

ENTRY %main.5 (a: f32[8,128], /*index=1*/b: s32[]) -> (f32[128], s32[]) {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0), metadata={op_name="a[\\'x\\']"}
  %b = s32[]{:T(128)} parameter(1)
  %f = f32[128]{0:T(128)} fusion(%a, /*index=1*/%b), kind=kLoop, calls=%fused, metadata={op_name="jit(f)/cut" stack_frame_id=3}, backend_config={"n":{"m":"3"},"t":"a,b"}
  ROOT %t = (f32[128]{0:T(128)}, s32[]{:T(128)}) tuple(%f, %b)
}
"""


def test_reads_computations():
  module = hlo.parse(_TEXT)
  assert module.entry.name == 'main.5'
  assert set(module.computations) == {'fused', 'main.5'}
  fused = module.computations['fused']
  assert fused.root.name == 'cut.1'
  assert fused.root.operands == ('param_0', 'param_1', 'zero')
  assert fused.root.numbers('dynamic_slice_sizes') == (1, 128)
  assert fused.instructions['zero'].attributes == '-7'
  assert fused.parameters[1].name == 'param_1'
  assert [user.name for user in fused.users['param_1']] == ['cut.1']


def test_reads_instructions():
  entry = hlo.parse(_TEXT).entry
  f = entry.instructions['f']
  assert (f.opcode, f.operands, f.called('calls')) == (
    'fusion',
    ('a', 'b'),
    'fused',
  )
  assert f.op_name == 'jit(f)/cut'
  assert f.backend == {'n': {'m': '3'}, 't': 'a,b'}
  assert f.text('kind') == 'kLoop'
  assert entry.instructions['b'].backend == {}
  assert [leaf.dims for leaf in entry.root.leaves] == [(128,), ()]


def test_text_without_an_entry_is_refused():
  with pytest.raises(ValueError, match='wanted optimised HLO'):
    hlo.parse('HloModule m')


def test_an_instruction_may_have_line_breaks():
  text = (
    _TEXT.replace(
      'is_scheduled=true',
      'is_scheduled=true, frontend_attributes={a="b"}',
    )
    + """
%broken (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %k = f32[8]{0} custom-call(%p), custom_call_target="k", frontend_attributes={kernel_metadata={
"said":"of itself"
}}, metadata={op_name="x"}
  ROOT %n = f32[8]{0} negate(%k)
}, execution_thread="other"
"""
  )
  broken = hlo.parse(text).computations['broken']
  assert list(broken.instructions) == ['p', 'k', 'n']
  assert broken.root.name == 'n'
  assert broken.instructions['k'].op_name == 'x'
