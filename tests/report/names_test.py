from wcse_jax.report import names, style


def _models(*roles):
  known = ('wc', 'student', 'se')
  return {'models': {role: {'label': f'{role}!'} for role in (*known, *roles)}}


def test_further_models_have_kinds_of_their_own():
  roles = [f'role{at}' for at in range(6)]
  results = _models(*roles)
  assert names.sampled(results) == ['wc', 'se', *roles]
  kinds = [names.kind(results, role) for role in names.sampled(results)]
  assert len(set(kinds)) == 8
  assert set(kinds) <= set(style.KINDS)
  assert names.kind(results, 'nobody') == 'other'


def test_roles_are_called_by_their_label():
  results = _models('hot')
  assert names.role(results, 'hot') == 'hot!'
  assert names.role(results, 'wc') == 'WC'
  assert names.role({}, 'hot') == 'hot'
  assert names.arm(results, 'wc_number_matched') == 'WC, as many as SE'
  assert names.arm(results, 'hot') == 'hot!'


def test_the_primary_difference_is_known_by_either_field():
  assert names.primary({'primary': True})
  assert names.primary({'role': 'primary'})
  assert not names.primary({'role': 'other', 'primary': False})


def _contrast(one, other):
  def light(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    parts = [
      v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts
    ]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), parts))

  low, high = sorted((light(one), light(other)))
  return (high + 0.05) / (low + 0.05)


def test_all_tones_can_be_read_in_both_schemes():
  for colours in (style.LIGHT, style.DARK):
    for tone, _ in style.KINDS.values():
      assert _contrast(colours[tone], colours['paper']) >= 4.5
  dashes = [dash for kind, (_, dash) in style.KINDS.items() if kind[0] == 'm']
  assert len(set(dashes)) == len(dashes)
