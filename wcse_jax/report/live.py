"""What a served page has besides: it loads itself again when it changed."""

import dataclasses

from wcse_jax.report import markup


# Where the server tells the version of its page.
PATH = 'version'

SCRIPT = r"""
'use strict';
(() => {
const {path, version} =
  JSON.parse(document.getElementById('live-data').textContent);
const again = () => setTimeout(ask, 2000);

async function ask() {
  try {
    const answer = await fetch(path, {cache: 'no-store'});
    if (answer.ok && await answer.text() !== version) {
      location.reload();
      return;
    }
  } catch {
    // Nobody answers: the page stays as it is.
  }
  again();
}

again();
})();
"""


@dataclasses.dataclass(frozen=True)
class Live:
  """A page that is served while its study may still run.

  Attributes:
    version: of its content.
    note: what keeps it from being newer; may be empty.
  """

  version: str
  note: str = ''

  def banner(self) -> markup.Html:
    """Returns the line that says so, with the script."""
    return markup.tag(
      'div',
      markup.tag(
        'p',
        'Live: this page follows the run folder, and loads itself again when '
        'there is more to show.',
        f' {self.note}' if self.note else None,
        class_='banner',
      ),
      markup.data({'path': PATH, 'version': self.version}, 'live-data'),
      markup.script(SCRIPT),
    )
