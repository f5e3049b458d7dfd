import type { PartResult } from './results.ts';

const colours: Readonly<Record<string, string>> = { ptp: '#9a9a9a', iptables: '#4878a8', ebpf: '#d9822b' };
const size = { width: 720, height: 300, left: 64, right: 16, top: 56, bottom: 40 } as const;

/** Bars of the part's first figure, by case and side: an SVG image of a few kilobytes. */
export function plotOf({ title, figures, cells }: PartResult): string {
  const [figure] = figures;
  if (figure === undefined) throw new Error(`${title}: nothing to plot`);
  const bars = cells.flatMap((cell) => {
    const value = cell.figures[figure.key];
    return value === undefined ? [] : [{ case: cell.case, side: cell.side, value }];
  });
  const cases = [...new Set(bars.map((bar) => bar.case))];
  const sides = [...new Set(bars.map(({ side }) => side))];
  const top = niceTop(Math.max(0, ...bars.map(({ value }) => value)));
  const plotHeight = size.height - size.top - size.bottom;
  const groupWidth = (size.width - size.left - size.right) / Math.max(1, cases.length);
  const barWidth = (groupWidth * 0.75) / Math.max(1, sides.length);
  const y = (value: number) => size.height - size.bottom - (value / top) * plotHeight;
  const lines = [0, 0.25, 0.5, 0.75, 1].flatMap((part) => {
    const at = y(top * part).toFixed(1);
    return [
      `<line x1="${size.left}" x2="${size.width - size.right}" y1="${at}" y2="${at}" stroke="#ddd"/>`,
      text(size.left - 6, Number(at) + 4, Number((top * part).toPrecision(3)).toString(), 'end'),
    ];
  });
  const drawn = bars.flatMap((bar) => {
    const group = size.left + cases.indexOf(bar.case) * groupWidth + groupWidth * 0.125;
    const x = group + sides.indexOf(bar.side) * barWidth;
    const height = size.height - size.bottom - y(bar.value);
    return [
      `<rect x="${x.toFixed(1)}" y="${y(bar.value).toFixed(1)}" width="${(barWidth - 2).toFixed(1)}" height="${height.toFixed(1)}" fill="${colours[bar.side] ?? '#444'}"/>`,
      text(x + barWidth / 2 - 1, y(bar.value) - 3, bar.value.toFixed(figure.digits), 'middle'),
    ];
  });
  const names = cases.map((name, index) =>
    text(size.left + (index + 0.5) * groupWidth, size.height - size.bottom + 18, name, 'middle'),
  );
  const legend = sides.flatMap((side, index) => [
    `<rect x="${size.left + index * 90}" y="30" width="10" height="10" fill="${colours[side] ?? '#444'}"/>`,
    text(size.left + index * 90 + 15, 39, side, 'start'),
  ]);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size.width} ${size.height}" font-family="sans-serif" font-size="11">`,
    `<rect width="${size.width}" height="${size.height}" fill="#fff"/>`,
    text(size.left, 18, `${title}: ${figure.title}`, 'start'),
    ...legend,
    ...lines,
    ...drawn,
    ...names,
    '</svg>',
    '',
  ].join('\n');
}

/** The next of 1, 2, 2.5, 5 times a power of ten above. */
function niceTop(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((top) => top >= value) ?? 10 * power;
}

function text(x: number, y: number, words: string, anchor: 'start' | 'middle' | 'end'): string {
  const escaped = words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${escaped}</text>`;
}
