import { expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { Selector } from '#api/selector/selector.ts';
import { converted } from './convert.fixtures.ts';
import { profileOfNamespace, profileOfServiceAccount } from './profiles.ts';
import { globalSubject, labelKeys, namespacedSubject, peerNode } from './selectors.ts';

/** What a selector can meet: a pod (with a service account), another thing of a namespace, or a thing of none. */
interface Thing {
  readonly labels: Labels;
  readonly namespace?: { readonly name: string; readonly labels: Labels } | undefined;
  readonly account?: { readonly name: string; readonly labels: Labels } | undefined;
}
type Labels = Readonly<Record<string, string>>;

/** A selector as text, with its meaning written a second time; what `all()` means depends on where it stands. */
interface Model {
  readonly text: string;
  readonly meaning: (labels: Labels, all: boolean) => boolean;
}

const seed = Date.now() & 0x7fffffff;
const bounded = { seed, interruptAfterTimeLimit: 1000, numRuns: 1000 };

const key = fc.constantFrom('a', 'b', 'projectcalico.org/name');
const value = fc.constantFrom('', 'x', 'y', 'xy');
const name = fc.constantFrom<string>('x', 'y', 'ns');
const labels = fc.dictionary(key, value, { maxKeys: 3 });

const thing: fc.Arbitrary<Thing> = fc
  .record({
    labels,
    namespace: fc.option(fc.record({ name, labels }), { nil: undefined }),
    account: fc.option(fc.record({ name, labels }), { nil: undefined }),
  })
  .map((made) => (made.namespace === undefined ? { ...made, account: undefined } : made));

const term: fc.Arbitrary<Model> = fc.oneof(
  fc.constant({ text: 'all()', meaning: (_labels: Labels, all: boolean) => all }),
  key.map((key) => ({ text: `has(${key})`, meaning: (labels: Labels) => Object.hasOwn(labels, key) })),
  fc.record({ key, value, not: fc.boolean() }).map(({ key, value, not }) => ({
    text: `${key} ${not ? '!=' : '=='} "${value}"`,
    meaning: (labels: Labels) => (labels[key] === value) !== not,
  })),
  fc.record({ key, values: fc.array(value, { maxLength: 3 }), not: fc.boolean() }).map(({ key, values, not }) => ({
    text: `${key} ${not ? 'not in' : 'in'} {${values.map((text) => `"${text}"`).join(',')}}`,
    meaning: (labels: Labels) => values.some((text) => text === labels[key]) !== not,
  })),
  fc.record({ key, value }).map(({ key, value }) => ({
    text: `${key} starts with "${value}"`,
    meaning: (labels: Labels) => labels[key]?.startsWith(value) ?? false,
  })),
);

const { selector } = fc.letrec<{ selector: Model }>((tie) => ({
  selector: fc.oneof(
    { maxDepth: 3 },
    term,
    tie('selector').map(({ text, meaning }) => ({
      text: `!(${text})`,
      meaning: (labels: Labels, all: boolean) => !meaning(labels, all),
    })),
    fc.tuple(tie('selector'), tie('selector')).map(([a, b]) => ({
      text: `(${a.text}) && (${b.text})`,
      meaning: (labels: Labels, all: boolean) => a.meaning(labels, all) && b.meaning(labels, all),
    })),
    fc.tuple(tie('selector'), tie('selector')).map(([a, b]) => ({
      text: `(${a.text}) || (${b.text})`,
      meaning: (labels: Labels, all: boolean) => a.meaning(labels, all) || b.meaning(labels, all),
    })),
  ),
}));
const given = fc.option(selector, { nil: undefined });
const things = fc.array(thing, { minLength: 5, maxLength: 12 });

/** The labels that calc gives a thing: its own, the inherited ones and those that say where it belongs. */
function calcLabels({ labels, namespace, account }: Thing): Labels {
  return {
    ...labels,
    ...(namespace === undefined
      ? {}
      : { ...profileOfNamespace({ metadata: namespace }).labels, [labelKeys.namespace]: namespace.name }),
    ...(namespace === undefined || account === undefined
      ? {}
      : {
          ...profileOfServiceAccount({ metadata: { ...account, namespace: namespace.name } }).labels,
          [labelKeys.serviceAccount]: account.name,
          [labelKeys.orchestrator]: 'k8s',
        }),
  };
}

/** A namespace and a service account are selected by their own labels and their name; what belongs to none has no labels there. */
function named(owner: { readonly name: string; readonly labels: Labels } | undefined): Labels {
  return owner === undefined ? {} : { ...owner.labels, [labelKeys.name]: owner.name };
}

test('the endpoints of a NetworkPolicy are those of its namespace that both its selectors select', () => {
  fc.assert(
    fc.property(given, given, things, (own, accounts, things) => {
      const spec = { selector: own?.text, serviceAccountSelector: accounts?.text };
      const made = new Selector(namespacedSubject(spec, 'ns'));
      for (const thing of things) {
        expect(made.evaluate(calcLabels(thing))).toBe(
          thing.namespace?.name === 'ns' &&
            (own?.meaning(thing.labels, true) ?? true) &&
            (accounts?.meaning(named(thing.account), true) ?? true),
        );
      }
    }),
    bounded,
  );
});

test('the endpoints of a GlobalNetworkPolicy are what all its selectors select; all() is limited by the others', () => {
  fc.assert(
    fc.property(given, given, given, things, (own, namespaces, accounts, things) => {
      const made = new Selector(
        globalSubject({
          selector: own?.text,
          namespaceSelector: namespaces?.text,
          serviceAccountSelector: accounts?.text,
        }),
      );
      for (const thing of things) {
        const inNamespace = thing.namespace !== undefined;
        const hasAccount = thing.account !== undefined;
        const all = namespaces !== undefined ? inNamespace : accounts !== undefined ? hasAccount : true;
        expect(made.evaluate(calcLabels(thing))).toBe(
          (own?.meaning(thing.labels, all) ?? true) &&
            (namespaces?.meaning(named(thing.namespace), inNamespace) ?? true) &&
            (accounts?.meaning(named(thing.account), hasAccount) ?? true),
        );
      }
    }),
    bounded,
  );
});

test('a peer is what all its selectors select, in the namespaces that it or its policy says', () => {
  const accountNames = fc.option(fc.array(name, { maxLength: 2 }), { nil: undefined });
  const policyNamespace = fc.option(name, { nil: undefined });
  const isGlobal = fc.boolean();
  fc.assert(
    fc.property(
      fc.record({
        own: given,
        not: given,
        namespaces: given,
        accounts: given,
        accountNames,
        policyNamespace,
        isGlobal,
      }),
      things,
      ({ own, not, accounts, accountNames: names, policyNamespace: home, ...rest }, things) => {
        const global: Model = { text: 'global()', meaning: (_labels, all) => !all };
        const namespaces = rest.isGlobal && rest.namespaces !== undefined ? global : rest.namespaces;
        const node = peerNode(
          {
            selector: own?.text,
            notSelector: not?.text,
            namespaceSelector: namespaces?.text,
            serviceAccounts: { selector: accounts?.text, names },
          },
          home,
        );
        const asks = [own, namespaces, accounts].some((model) => model !== undefined) || (names ?? []).length > 0;
        expect(node !== undefined).toBe(asks || (not !== undefined && home !== undefined));
        if (node === undefined) return;
        const made = new Selector(node);
        for (const thing of things) {
          expect(made.evaluate(calcLabels(thing))).toBe(
            (own?.meaning(thing.labels, true) ?? true) &&
              (namespaces?.meaning(named(thing.namespace), thing.namespace !== undefined) ??
                (home === undefined || thing.namespace?.name === home)) &&
              (accounts?.meaning(named(thing.account), true) ?? true) &&
              (names === undefined || names.length === 0 || names.includes(thing.account?.name ?? '')),
          );
        }
      },
    ),
    bounded,
  );
});

test('Kubernetes selectors select pods as its documentation says', () => {
  const requirement = fc.oneof(
    fc.record({
      key,
      operator: fc.constantFrom('In', 'NotIn'),
      values: fc.array(value, { minLength: 1, maxLength: 3 }),
    }),
    fc.record({ key, operator: fc.constantFrom('Exists', 'DoesNotExist') }).map((term) => ({ ...term, values: [] })),
  );
  const labelSelector = fc.record({ matchLabels: labels, matchExpressions: fc.array(requirement, { maxLength: 2 }) });
  const fits = (
    { matchLabels, matchExpressions }: { matchLabels: Labels; matchExpressions: readonly Requirement[] },
    labels: Labels,
  ) =>
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values }) => {
      const actual = labels[key];
      if (operator === 'In' || operator === 'NotIn') {
        return (operator === 'In') === (actual !== undefined && values.includes(actual));
      }
      return (operator === 'Exists') === (actual !== undefined);
    });
  fc.assert(
    fc.property(labelSelector, fc.option(labelSelector, { nil: undefined }), things, (pods, namespaces, things) => {
      const peer = { podSelector: pods, ...(namespaces === undefined ? {} : { namespaceSelector: namespaces }) };
      const policy = converted('KubernetesNetworkPolicy', { podSelector: pods, ingress: [{ from: [peer] }] });
      const [from] = policy.ingress[0]?.source.sets ?? [];
      for (const thing of things) {
        const isPod = thing.account !== undefined;
        const ownNamespace = thing.namespace?.name === 'ns';
        const labels = calcLabels(thing);
        expect(policy.selector.evaluate(labels)).toBe(isPod && ownNamespace && fits(pods, thing.labels));
        expect(from?.kind === 'selector' && from.selector.evaluate(labels)).toBe(
          isPod &&
            fits(pods, thing.labels) &&
            (namespaces === undefined ? ownNamespace : fits(namespaces, named(thing.namespace))),
        );
      }
    }),
    { ...bounded, numRuns: 700 },
  );
});

interface Requirement {
  readonly key: string;
  readonly operator: string;
  readonly values: readonly string[];
}
