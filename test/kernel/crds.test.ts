/**
 * The definitions in manifests/crds/ before an API server's own code: it takes them, takes what our parser takes, refuses what our parser
 * refuses (but for what a definition can't say), and gives the defaults that our parser gives.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import type { ValidationError, ValidationIssue } from '#api/errors.ts';
import { least, object } from '#api/kinds.fixtures.ts';
import { kindNameOf, kinds, parseAs, type KindName } from '#api/kinds.ts';
import { invalidDocuments, invalidRules } from '#api/policies.invalid.fixtures.ts';
import { validDocuments, validRules } from '#api/policies.valid.fixtures.ts';
import { seededRandom, soakMs } from '#test/lab/agent-lab.ts';
import { definitionFiles } from '../../scripts/crds/files.ts';
import { crdKinds } from '../../scripts/crds/kinds.ts';
import { allRules, type CrdRule } from '../../scripts/crds/rules.ts';
import type { CrdSchema } from '../../scripts/crds/schema.ts';
import { unsaid } from '../../scripts/crds/unsaid.ts';
import { askServer, program, type ServerQuestion, type ServerVerdict } from '../go/crdcheck.ts';
import { randomObject } from './crds-random.ts';

const dir = fileURLToPath(new URL('../../manifests/crds/', import.meta.url));
const files = [...definitionFiles().keys()];
const definitions = files.map((file) => readFileSync(`${dir}${file}`, 'utf8'));
const names = [...crdKinds().keys()];

/** An object that stands for a question, with what it is of. */
interface Case {
  readonly kind: KindName;
  readonly object: Readonly<Record<string, unknown>>;
  readonly old?: object;
}

beforeAll(async () => {
  await program();
}, 600_000);

test('an API server takes every definition', async () => {
  const { definitions: problems } = await askServer(definitions, []);
  expect(Object.fromEntries(files.map((file, index) => [file, problems[index]]))).toEqual(
    Object.fromEntries(files.map((file) => [file, []])),
  );
});

test('names, scope and version are those of the kind', () => {
  for (const [index, kind] of names.entries()) {
    const { apiVersion, plural, namespaced } = kinds[kind];
    const [group, version] = apiVersion.split('/');
    expect(parse(definitions[index] ?? '')).toMatchObject({
      metadata: { name: `${plural}.${group}` },
      spec: {
        group,
        names: { kind: kinds[kind].kind, plural },
        scope: namespaced ? 'Namespaced' : 'Cluster',
        versions: [{ name: version, served: true, storage: true }],
      },
    });
  }
});

describe('what our parser takes', () => {
  test('of each kind the least is taken, and means the same after defaults', async () => {
    await expectTaken(names.map((kind) => ({ kind, object: object(kind, least[kind]) })));
  });

  test('documents and rules as users write them are taken, and mean the same after defaults', async () => {
    const documents = validDocuments.map(([, text]) => document(text));
    const rules = validRules.map(([direction, rule]) => inPolicy(direction, rule));
    await expectTaken([...documents.filter(isCase), ...rules]);
  });

  test('fields that nobody knows are kept in what programs write, and dropped from what people write', async () => {
    const attributes = [{ handle_id: 'net.abc', novel: 2 }];
    const [pool, ipamBlock] = await ask([
      { kind: 'IPPool', object: object('IPPool', { ...least.IPPool, novel: 1 }) },
      { kind: 'IPAMBlock', object: object('IPAMBlock', { ...least.IPAMBlock, attributes, novel: 1 }) },
    ]);
    expect(pool?.unknown).toEqual(['spec.novel']);
    expect(ipamBlock?.unknown).toEqual([]);
    expect(ipamBlock?.object).toMatchObject({ spec: { novel: 1, attributes } });
  });
});

describe('a rule', () => {
  const rows = allRules.flatMap((row) =>
    row.kinds.map((kind) => [`${kind} ${row.at || '(object)'}: ${row.message}`, kind, row] as const),
  );
  let verdicts: readonly ServerVerdict[] = [];
  beforeAll(async () => {
    verdicts = await ask(rows.map(([, kind, row]) => broken(kind, row)));
  });

  test.each(rows.map((row, index) => [...row, index] as const))('%s', (_title, kind, row, index) => {
    const ours = issuesOf(broken(kind, row));
    if (row.before === undefined) {
      const words = row.ours ?? row.message;
      expect(ours.map(({ message }) => message.startsWith(words))).toContain(true);
    } else {
      expect(ours).toEqual([]);
    }
    const theirs = verdicts[index]?.problems ?? [];
    expect(theirs).not.toEqual([]);
    if (row.rule !== undefined) {
      const said = theirs.find(({ detail }) => detail === row.message);
      expect(theirs.map(({ detail }) => detail)).toContain(row.message);
      if (row.before === undefined && row.at !== '') {
        const words = row.ours ?? row.message;
        const paths = ours.filter(({ message }) => message.startsWith(words)).map(({ path }) => path);
        // One of both may speak of a part of what the other speaks of.
        const there = said?.field ?? '-';
        expect(paths.some((path) => path.startsWith(there) || there.startsWith(path))).toBe(true);
      }
    }
  });
});

test('a pool that is written again is taken, with what it did not say before', async () => {
  const pools = [{ cidr: '10.65.0.0/16' }, { cidr: '10.65.0.0/16', blockSize: 26 }, { cidr: 'fd00::/48' }];
  const verdicts = await ask(
    pools.map((spec) => {
      const blockSize = spec.cidr.includes(':') ? 122 : 26;
      return {
        kind: 'IPPool',
        old: object('IPPool', spec),
        object: object('IPPool', { ...spec, blockSize, disabled: true }),
      };
    }),
  );
  expect(verdicts.map(({ problems }) => problems)).toEqual([[], [], []]);
});

describe('what our parser refuses', () => {
  test(`and a definition can't say is all in a list (${unsaid.length} rows, beside ${allRules.length} rules that it says)`, async () => {
    const cases = unsaid.map(({ kind, spec, labels }) => ({
      kind,
      object: object(kind, spec, labels === undefined ? {} : { labels }),
    }));
    const verdicts = await ask(cases);
    for (const [index, each] of cases.entries()) {
      const row = unsaid[index];
      expect(issuesOf(each)).toContainEqual({
        path: expect.any(String),
        message: expect.stringMatching(row?.message ?? ''),
      });
      expect({ row, problems: verdicts[index]?.problems }).toEqual({ row, problems: [] });
    }
  });

  test('in the fixtures is refused by the API server, but for what a definition cannot say', async () => {
    const cases = [
      ...invalidDocuments.map(([text]) => document(text)).filter(isCase),
      ...invalidRules.map(([direction, rule]) => inPolicy(direction, rule)),
    ];
    const verdicts = await ask(cases);
    const wrong = cases.flatMap((each, index) => disagreement(each, verdicts[index]));
    expect(wrong).toEqual([]);
  });

  test(
    'or takes, at random, the API server refuses or takes as well, but for what a definition cannot say',
    async () => {
      const random = seededRandom('objects for definitions');
      const schemas = new Map<KindName, CrdSchema>(
        names.map((kind, index) => [kind, schemaOf(definitions[index] ?? '')]),
      );
      const end = Date.now() + soakMs(1);
      let taken = 0;
      let refused = 0;
      do {
        const cases = Array.from({ length: 400 }, (_, index) => {
          const kind = names[index % names.length] as KindName;
          const made = randomObject(random, schemas.get(kind) ?? {}, object(kind, least[kind]));
          return { kind, object: made };
        });
        const verdicts = await ask(cases);
        const wrong = cases.flatMap((each, index) => disagreement(each, verdicts[index]));
        expect(wrong.sort((a, b) => a.length - b.length).slice(0, 3)).toEqual([]);
        taken += verdicts.filter(({ problems }) => problems.length === 0).length;
        refused += verdicts.filter(({ problems }) => problems.length > 0).length;
      } while (Date.now() < end);
      // Neither side may be trivial.
      expect(Math.min(taken, refused)).toBeGreaterThan(50);
    },
    240_000 + soakMs(1),
  );

  /** What is wrong between the two, in words; empty if they agree, or disagree as `unsaid` has it. */
  function disagreement(each: Case, verdict: ServerVerdict | undefined): string[] {
    const issues = issuesOf(each);
    const problems = verdict?.problems ?? [];
    const shown = JSON.stringify(each.object);
    if (issues.length === 0) {
      return problems.length === 0
        ? meaningChanged(each, verdict)
        : [`refused only there: ${shown}: ${JSON.stringify(problems)}`];
    }
    if (problems.length > 0) return [];
    return issues.flatMap(({ path, message }) => {
      const known = unsaid.some((row) => row.message.test(message));
      return known ? [] : [`taken there: ${shown}: ${path}: ${message}`];
    });
  }
});

function meaningChanged({ kind, object: raw }: Case, verdict: ServerVerdict | undefined): string[] {
  // What was dropped there is what our parser lists as unknown.
  if (verdict === undefined || verdict.unknown.length > 0) return [];
  const stored = parseAs(kind, verdict.object).object;
  try {
    expect(stored).toEqual(parseAs(kind, raw).object);
    return [];
  } catch (error) {
    return [`${kind} changed: ${(error as Error).message}`];
  }
}

async function expectTaken(cases: readonly Case[]): Promise<void> {
  const verdicts = await ask(cases);
  const wrong = cases.flatMap((each, index) => {
    const { problems = [] } = verdicts[index] ?? {};
    return problems.length > 0
      ? [`${JSON.stringify(each.object)}: ${JSON.stringify(problems)}`]
      : meaningChanged(each, verdicts[index]);
  });
  expect(wrong).toEqual([]);
}

async function ask(cases: readonly Case[]): Promise<readonly ServerVerdict[]> {
  const questions = cases.map(({ kind, object: asked, old }): ServerQuestion => {
    return {
      definition: definitionName(kind),
      object: placed(kind, asked),
      ...(old === undefined ? {} : { old: placed(kind, old) }),
    };
  });
  const wanted = new Set(questions.map(({ definition }) => definition));
  const needed = definitions.filter((_, index) => wanted.has(definitionName(names[index] as KindName)));
  return (await askServer(needed, questions)).objects;
}

function definitionName(kind: KindName): string {
  const { plural, apiVersion } = kinds[kind];
  return `${plural}.${apiVersion.split('/')[0]}`;
}

/** As `kubectl` sends it: in a namespace where there are some. */
function placed(kind: KindName, raw: object): object {
  const { metadata, ...rest } = raw as { metadata?: object };
  return { ...rest, metadata: { ...(kinds[kind].namespaced ? { namespace: 'default' } : {}), ...metadata } };
}

function issuesOf({ kind, object: raw }: Case): readonly ValidationIssue[] {
  try {
    parseAs(kind, raw);
    return [];
  } catch (error) {
    if ((error as ValidationError).code !== 'invalid') throw error;
    return (error as ValidationError).issues;
  }
}

/** A row's example as an object. */
function broken(kind: KindName, { at, breaks, beside, before }: CrdRule): Case {
  if (at === '') {
    const { metadata = {}, spec = least[kind] } = breaks as { metadata?: object; spec?: object };
    return { kind, object: object(kind, spec, metadata) };
  }
  const { spec } = around(at, breaks, beside) as { spec: object };
  const isSpec = at === 'spec';
  const made = object(kind, isSpec ? spec : { ...least[kind], ...spec });
  return before === undefined ? { kind, object: made } : { kind, object: made, old: object(kind, before as object) };
}

/** The value at that path, in as little as may be around it. */
function around(path: string, value: unknown, beside: object = {}): unknown {
  let besides = beside;
  return path.split(/\.|(?=\[\])/).reduceRight<unknown>((inner, step) => {
    if (step === '[]') return [inner];
    const outer = { [step]: inner, ...besides };
    besides = {};
    const isRule =
      step === 'source' || step === 'destination' || step === 'http' || step.endsWith('cmp') || step === 'notICMP';
    const isClusterRule = (step === 'from' || step === 'to' || step === 'protocols') && !path.includes('ipBlock');
    if (isRule) return { action: 'Allow', ...protocolFor(step), ...outer };
    if (isClusterRule) {
      const peers = path.includes('egress') ? { to: [{ namespaces: {} }] } : { from: [{ namespaces: {} }] };
      return { action: 'Accept', ...peers, ...outer };
    }
    return outer;
  }, value);
}

function protocolFor(step: string): object {
  return step.toLowerCase().endsWith('icmp') ? { protocol: 'ICMP' } : {};
}

function document(text: string): Case | undefined {
  const raw = parse(text) as Record<string, unknown>;
  const kind = kindNameOf(raw['kind'] as string, raw['apiVersion'] as string);
  return kind === undefined || !names.includes(kind) ? undefined : { kind, object: raw };
}

/** YAML knows an infinity, JSON none: such an object never reaches an API server. */
function isCase(each: Case | undefined): each is Case {
  return (
    each !== undefined &&
    !JSON.stringify(each.object, (_, value: unknown) => (value === Infinity ? '.inf' : value)).includes('".inf"')
  );
}

function inPolicy(direction: 'ingress' | 'egress', rule: string): Case {
  return { kind: 'NetworkPolicy', object: object('NetworkPolicy', { [direction]: [parse(rule)] }) };
}

function schemaOf(text: string): CrdSchema {
  const { spec } = parse(text) as { spec: { versions: { schema: { openAPIV3Schema: CrdSchema } }[] } };
  return spec.versions[0]?.schema.openAPIV3Schema ?? {};
}
