import pytest

from wcse_jax.report import markup


def test_text_is_escaped_and_markup_is_not():
  inner = markup.tag('b', '<i> & "')
  assert inner == '<b>&lt;i&gt; &amp; &quot;</b>'
  assert markup.tag('p', inner, None, [' 1', 2]) == f'<p>{inner} 12</p>'


def test_a_concatenation_is_text_again():
  together = markup.tag('b', 'x') + '<script>'
  assert not isinstance(together, markup.Html)
  assert '<script>' not in markup.join(together)


def test_attributes():
  made = markup.tag('p', class_='a', aria_label='b "c"', x=1.5, y=2.0, id=None)
  assert made == '<p class="a" aria-label="b &quot;c&quot;" x="1.5" y="2"></p>'
  assert markup.tag('details', open=True) == '<details open></details>'


def test_void_elements_have_no_end():
  assert markup.tag('br') == '<br>'
  with pytest.raises(ValueError, match='br takes no children; got 1'):
    markup.tag('br', 'x')


def test_a_table_has_a_head_for_each_row_and_column():
  table = markup.table(
    ['a', 'b'], [['1', '<2>'], ['3', '4']], label='x', numeric=[1], marked=[1]
  )
  assert table.count('scope="col"') == 2
  assert table.count('scope="row"') == 2
  assert '<td class="num">&lt;2&gt;</td>' in table
  assert table.count('<tr class="marked">') == 1
