import type { CommandResult, CommandRunner } from '#native/command-runner.ts';

interface FakeChain {
  readonly policy: string;
  readonly rules: readonly string[];
}
type FakeTable = Map<string, FakeChain>;

const KERNEL_CHAINS: Readonly<Record<string, readonly string[]>> = {
  raw: ['PREROUTING', 'OUTPUT'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
};

/**
 * The iptables tools over tables in memory, for tests: it parses what iptables-restore gets, applies it as a whole or fails as a whole
 * with a line number as the tool does, and prints it as iptables-save. Rules are kept as text.
 */
export class FakeXtables implements CommandRunner {
  /** By tool (`iptables-nft`), then table name. */
  readonly #kernels = new Map<string, Map<string, FakeTable>>();
  /** Every command line run, oldest first. */
  readonly runs: string[] = [];
  /** The inputs of all restores, oldest first. */
  readonly inputs: string[] = [];
  /** As many of the next restores fail. */
  failNextRestores = 0;
  /** Runs before each restore, as another program that writes at the same moment. */
  beforeRestore: (() => void) | undefined;
  /** Tools that aren't installed. */
  readonly missing = new Set<string>();
  /** Rules that have these words are refused, with the tool's line number. */
  readonly badWords = new Set<string>();
  /** Packets that a rule has counted, by its text without the comment; 10 bytes each. */
  readonly counted = new Map<string, number>();

  run(
    file: string,
    args: readonly string[],
    options: { readonly input?: string | undefined } = {},
  ): Promise<CommandResult> {
    this.runs.push([file, ...args].join(' '));
    if (this.missing.has(file))
      return Promise.reject(Object.assign(new Error(`spawn ${file} ENOENT`), { code: 'ENOENT' }));
    const tables = this.tables(file.replace(/-(save|restore)$/, ''));
    const table = args[args.indexOf('-t') + 1] ?? '';
    try {
      if (file === 'nft') return done(this.#nft(args));
      if (file.endsWith('-save')) return done(this.#save(tables, args.includes('-c')));
      if (file.endsWith('-restore'))
        this.#restore(args.includes('--test') ? structuredClone(tables) : tables, options.input ?? '');
      else deleteChains(tables, table);
      return done('');
    } catch (error) {
      return Promise.resolve({ status: 2, signal: null, stdout: '', stderr: `${file}: ${(error as Error).message}` });
    }
  }

  /** How many restores were run. */
  get restores(): number {
    return this.inputs.length;
  }

  /** The tables of one tool, to look at and to change as another program would. */
  tables(tool: string): Map<string, FakeTable> {
    const tables = this.#kernels.get(tool) ?? new Map<string, FakeTable>();
    this.#kernels.set(tool, tables);
    return tables;
  }

  /** Runs a restore input as another program: not counted. */
  write(tool: string, input: string): void {
    apply(this.tables(tool), input);
  }

  /** One table as text: chains and rules, without the hashes. */
  dump(tool: string, table: string): string {
    return print(table, this.tables(tool).get(table) ?? new Map())
      .replaceAll(/^(-A \S+) (.*) -m comment --comment "cali:[\w-]{16}"$/gm, '$1 # $2')
      .replaceAll(' [0:0]', '');
  }

  /** `list table` and `delete table`, of what iptables-nft keeps. */
  #nft([verb = '', , family, table = '']: readonly string[]): string {
    const tables = this.tables(family === 'ip' ? 'iptables-nft' : 'ip6tables-nft');
    const chains = tables.get(table);
    if (chains === undefined) throw new Error('No such file or directory');
    if (verb === 'delete') {
      tables.delete(table);
      return '';
    }
    return [`table ${family} ${table} {`, ...[...chains].flatMap(listChain), '}', ''].join('\n');
  }

  #save(tables: Map<string, FakeTable>, withCounters: boolean): string {
    const text = [...tables].map(([name, table]) => print(name, table)).join('');
    if (!withCounters) return text;
    return text.replaceAll(/^-A \S+ (.*)$/gm, (line, rule: string) => {
      const packets = this.counted.get(rule.replace(/ -m comment --comment "cali:\S{16}"$/, '')) ?? 0;
      return `[${packets}:${packets * 10}] ${line}`;
    });
  }

  #restore(tables: Map<string, FakeTable>, input: string): void {
    this.inputs.push(input);
    this.beforeRestore?.();
    if (this.failNextRestores > 0) {
      this.failNextRestores -= 1;
      throw new Error('line 1 failed: Resource temporarily unavailable.');
    }
    for (const [index, line] of input.split('\n').entries()) {
      if ([...this.badWords].some((words) => line.includes(words)))
        throw new Error(`unknown option\nError occurred at line: ${index + 1}`);
    }
    apply(tables, input);
  }
}

/** As nft lists it. */
function listChain([name, { policy, rules }]: readonly [string, FakeChain]): string[] {
  const hook = policy === '-' ? [] : [`\t\ttype filter hook some priority 0; policy ${policy.toLowerCase()};`];
  return [`\tchain ${name} {`, ...hook, ...rules.map((rule) => `\t\t${rule}`), '\t}', ''];
}

const done = (stdout: string): Promise<CommandResult> =>
  Promise.resolve({ status: 0, signal: null, stdout, stderr: '' });

const newTable = (name: string): FakeTable =>
  new Map((KERNEL_CHAINS[name] ?? []).map((chain) => [chain, { policy: 'ACCEPT', rules: [] }]));

function print(name: string, table: FakeTable): string {
  const chains = [...table].map(([chain, { policy }]) => `:${chain} ${policy} [0:0]\n`);
  const rules = [...table].flatMap(([chain, { rules }]) => rules.map((rule) => `-A ${chain} ${rule}\n`));
  return [`*${name}\n`, ...chains, ...rules, 'COMMIT\n'].join('');
}

/** Carries an input out on copies; they replace the tables only when every line was right. */
function apply(tables: Map<string, FakeTable>, input: string): void {
  const changed = new Map<string, FakeTable>();
  let table: FakeTable = new Map();
  for (const [index, line] of input.split('\n').entries()) {
    try {
      if (line.startsWith('*')) {
        const name = line.slice(1);
        if (KERNEL_CHAINS[name] === undefined) throw new Error(`unknown table ${name}`);
        table = new Map(tables.get(name) ?? newTable(name));
        changed.set(name, table);
      } else if (line === 'COMMIT') {
        checkJumps(table);
      } else if (line !== '' && !line.startsWith('#')) {
        applyLine(table, line);
      }
    } catch (error) {
      throw new Error(`line ${index + 1} failed: ${(error as Error).message}`, { cause: error });
    }
  }
  for (const [name, copy] of changed) tables.set(name, copy);
}

function applyLine(table: FakeTable, line: string): void {
  const [verb = '', name = '', ...words] = line.split(' ');
  if (line.startsWith(':')) {
    if (name === '-') table.set(verb.slice(1), { policy: '-', rules: [] });
    else table.set(verb.slice(1), { policy: name, rules: table.get(verb.slice(1))?.rules ?? [] });
    return;
  }
  const chain = table.get(name);
  if (chain === undefined) throw new Error(`No chain/target/match by that name: ${name}.`);
  const rule = words.join(' ');
  if (verb === '-A') table.set(name, { ...chain, rules: [...chain.rules, rule] });
  else if (verb === '-I') table.set(name, { ...chain, rules: [rule, ...chain.rules] });
  else if (verb === '-F') table.set(name, { ...chain, rules: [] });
  else if (verb === '-D') {
    const at = chain.rules.indexOf(rule);
    if (at < 0) throw new Error('Bad rule (does a matching rule exist in that chain?).');
    table.set(name, { ...chain, rules: chain.rules.toSpliced(at, 1) });
  } else if (verb === '-X') {
    if (chain.rules.length > 0) throw new Error('Directory not empty');
    table.delete(name);
  } else throw new Error(`unknown option ${verb}`);
}

/** A jump to a chain that isn't there fails, as the kernel would. */
function checkJumps(table: FakeTable): void {
  for (const { rules } of table.values()) {
    for (const rule of rules) {
      const target = /-[jg] (\S+)/.exec(rule)?.[1] ?? '';
      if (/^[a-z]/.test(target) && !table.has(target))
        throw new Error(`No chain/target/match by that name: ${target}.`);
    }
  }
}

function deleteChains(tables: Map<string, FakeTable>, name: string): void {
  const table = tables.get(name);
  if ([...(table?.values() ?? [])].some(({ rules }) => rules.length > 0))
    throw new Error('CHAIN_DEL failed (Device or resource busy)');
  // The table stays, and is printed with chains that aren't there.
  tables.set(name, newTable(name));
}
