import type { ConfFile } from './facts.ts';
import { matchesGlob } from './glob.ts';
import { iniBoolean, parseIni, type IniEntry } from './ini.ts';

/** The path of the .network file by which systemd-networkd configures a veth device of this name (systemd.network(5)); undefined when it leaves it alone. */
export function networkFileFor(files: readonly ConfFile[], device: string): string | undefined {
  // Names in order, whatever directory they are in; of equal names the first directory counts. An empty file masks others.
  const byName = new Map<string, ConfFile>();
  for (const file of files) if (!byName.has(nameOf(file))) byName.set(nameOf(file), file);
  for (const name of [...byName.keys()].sort()) {
    const file = byName.get(name) as ConfFile;
    const entries = parseIni(file.text);
    if (!matches(entries, device)) continue;
    const isLeftAlone = entries.some(
      ({ section, key, value }) => section === 'Link' && key === 'Unmanaged' && iniBoolean(value) === true,
    );
    return isLeftAlone ? undefined : file.path;
  }
  return undefined;
}

/** What a [Match] section of these keys sees in a veth device; the keys that we know. Any other one is taken for not matching. */
const VETH: Readonly<Record<string, (device: string) => readonly string[]>> = {
  Name: (device) => [device],
  OriginalName: (device) => [device],
  Type: () => ['ether'],
  Driver: () => ['veth'],
  Kind: () => ['veth'],
};

function matches(entries: readonly IniEntry[], device: string): boolean {
  const conditions = Map.groupBy(
    entries.filter(({ section }) => section === 'Match'),
    ({ key }) => key,
  );
  // Without conditions a file matches nothing (it is an error since version 243).
  if (conditions.size === 0) return false;
  return [...conditions].every(([key, all]) => {
    const seen = VETH[key]?.(device) ?? [];
    const patterns = all.flatMap(({ value }) => value.split(/\s+/)).filter((pattern) => pattern !== '');
    const isNegated = patterns[0]?.startsWith('!') ?? false;
    const some = patterns.some((pattern) => seen.some((text) => matchesGlob(pattern.replace(/^!/, ''), text)));
    return isNegated ? !some : some;
  });
}

/**
 * Whether systemd-networkd removes routes that others made (networkd.conf(5): ManageForeignRoutes, `yes` unless said otherwise). Of the
 * main files only the first counts; of drop-ins every one, by name, and they have the last word.
 */
export function managesForeignRoutes(main: readonly ConfFile[], dropIns: readonly ConfFile[]): boolean {
  const byName = new Map<string, ConfFile>();
  for (const file of dropIns) if (!byName.has(nameOf(file))) byName.set(nameOf(file), file);
  const inOrder = [...main.slice(0, 1), ...[...byName].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, file]) => file)];
  let manages = true;
  for (const { section, key, value } of inOrder.flatMap(({ text }) => parseIni(text))) {
    if (section === 'Network' && key === 'ManageForeignRoutes') manages = iniBoolean(value) ?? manages;
  }
  return manages;
}

const nameOf = ({ path }: ConfFile): string => path.slice(path.lastIndexOf('/') + 1);
