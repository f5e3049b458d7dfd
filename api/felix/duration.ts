/** Milliseconds of one of Go's duration units. */
const unitMs: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** As texts: a letter outside of ASCII in a literal pattern would make V8 hold the whole program's source in two bytes a character. */
const units = Object.keys(unitMs).join('|');

/** A duration as Go writes it, or 0. */
export const durationPattern = new RegExp(String.raw`^(0|(\d+(\.\d+)?(${units}))+)$`);

const partPattern = new RegExp(String.raw`(\d+(\.\d+)?)(${units})`, 'g');

/** Milliseconds of a duration as Go writes it (`90s`, `1m30s`, `1h5m`, `1.5h`, `0`); undefined if the text is none. */
export function parseDuration(text: string): number | undefined {
  if (text === '0') {
    return 0;
  }
  if (!durationPattern.test(text)) {
    return undefined;
  }
  let ms = 0;
  for (const [, amount = '', , unit = ''] of text.matchAll(partPattern)) {
    ms += Number(amount) * (unitMs[unit] ?? 0);
  }
  return ms;
}
