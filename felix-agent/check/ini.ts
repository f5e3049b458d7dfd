/** One assignment of an INI file, in the order of the file. */
export interface IniEntry {
  readonly section: string;
  /** With its sign, where the file has `key+=value`: `key+`. */
  readonly key: string;
  readonly value: string;
}

/** Reads what NetworkManager and systemd call their configuration: sections, assignments, comments of `#` and `;`. Other lines say nothing. */
export function parseIni(text: string): readonly IniEntry[] {
  const entries: IniEntry[] = [];
  let section = '';
  for (const raw of text.split('\n')) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue;
    const heading = /^\[(.*)\]$/.exec(line)?.[1];
    const equals = line.indexOf('=');
    if (heading !== undefined) section = heading;
    else if (equals > 0)
      entries.push({ section, key: line.slice(0, equals).trim(), value: line.slice(equals + 1).trim() });
  }
  return entries;
}

/** As systemd and GLib read a boolean; undefined for anything else. */
export function iniBoolean(value: string): boolean | undefined {
  if (/^(1|yes|true|on|y|t)$/i.test(value)) return true;
  return /^(0|no|false|off|n|f)$/i.test(value) ? false : undefined;
}
