"""Tables, as they are printed and written."""
from dataclasses import dataclass, field

from workloads import PEERS

MIB = 1 << 20
UNITS = {
    # unit: (CPU, factor, rate, factor)
    'GiB': ('CPU s/GiB', 1, 'GB/s', 1.073741824),
    'upload': ('CPU µs/upload', 1e6, 'uploads/s', 1),
    'request': ('CPU µs/request', 1e6, 'requests/s', 1),
}


@dataclass
class Table:
    """A measured workload: cells are text."""
    number: str
    title: str
    head: list
    rows: list
    remarks: list = field(default_factory=list)

    def markdown(self):
        lines = [f'### {self.number}. {self.title}', '']
        if self.rows:
            lines += [row_of(self.head), row_of(['---', *['--:'] * (len(self.head) - 1)])]
            lines += [row_of(row) for row in self.rows] + ['']
        return '\n'.join([*lines, *(f'- {remark}' for remark in self.remarks), ''])

    def text(self):
        widths = [max(len(row[column]) for row in [self.head, *self.rows])
                  for column in range(len(self.head))]
        lines = [f'bench {self.number}: {self.title}']
        for row in [self.head, *self.rows]:
            lines.append('  ' + row[0].ljust(widths[0]) + ''.join(
                '  ' + cell.rjust(width) for cell, width in zip(row[1:], widths[1:])))
        return '\n'.join([*lines, *(f'  {remark}' for remark in self.remarks), ''])


def row_of(cells):
    return f'| {" | ".join(cells)} |'


def number(value):
    """Three digits that mean something."""
    if value >= 100:
        return f'{value:,.0f}'
    return f'{value:.3g}' if value >= 10 else f'{value:.2f}' if value >= 0.1 else f'{value:.4f}'


def spread(values):
    return f'{number(values.low)}–{number(values.high)}'


def comparison(workload, results, remarks, judging):
    """`results`: by label a dict of Series: 'cpu' and 'rate', per unit and second, and 'read'."""
    cpu, cpu_factor, rate, rate_factor = UNITS[workload.unit]
    first = next(iter(results.values()))
    rows = []
    for label, figures in results.items():
        scaled = [scale(figures['cpu'], cpu_factor), scale(figures['rate'], rate_factor)]
        ratios = [first[key].median / figures[key].median if figures[key].median else 0
                  for key in ('cpu', 'rate')]
        rows.append([label] + [cell for values, ratio in zip(scaled, ratios)
                               for cell in (number(values.median), spread(values),
                                            f'{ratio:.2f}')])
    head = ['', cpu, 'spread', 'mod_tus to it', rate, 'spread', 'mod_tus to it']
    targets = workload.targets if judging else ()
    verdicts = [verdict(target, results, label_of_peers(workload)) for target in targets]
    return Table(workload.number, workload.title, head, rows,
                 [*sum(verdicts, []), *filter(None, [workload.note]), *reads(results), *remarks])


def reads(results):
    """Who had to wait for the disk in half of the runs or more."""
    return [f'{label} read {number(figures["read"].median / MIB)} MiB from the disk'
            for label, figures in results.items() if figures['read'].median >= MIB]


def scale(values, factor):
    return type(values)(*(value * factor for value in values))


def label_of_peers(workload):
    return [entry.label for entry in workload.entries if entry.is_peer]


def verdict(target, results, peers):
    """What was wanted, and what is; a line for each of the others."""
    groups = [(label,) for label in peers] if target.others == PEERS else [target.others]
    if not groups:
        return [f'{wanted(target, target.others)}: no peer is there']
    return [judged(target, others, results) for others in groups]


def wanted(target, others):
    figure, least = {'cpu': ('CPU', 'at most'), 'rate': ('rate', 'at least')}[target.figure]
    whose = '' if target.of == 'mod_tus' else f'{target.of}: '
    return f'{whose}{figure} {least} {target.factor:.3g} of {" plus ".join(others)}'


def judged(target, others, results):
    absent = [label for label in others if label not in results]
    if absent:
        return f'{wanted(target, others)}: not compared, {", ".join(absent)} is not there'
    base = sum(results[label][target.figure].median for label in others)
    ratio = results[target.of][target.figure].median / base if base else float('inf')
    met = ratio <= target.factor if target.figure == 'cpu' else ratio >= target.factor
    return f'{wanted(target, others)}: {ratio:.2f}, {"met" if met else "**missed**"}'
