/** The few words that random clusters are made of: few enough that rules and packets meet often. */
import type { Family } from './cluster.ts';
import type { Random } from './random.ts';

/** Namespaces that pods are in. */
export const namespaces = ['red', 'green', 'blue'] as const;
export const serviceAccounts = ['default', 'robot'] as const;

/** Labels of pods, network sets and host endpoints. */
export const endpointLabels: Readonly<Record<string, readonly string[]>> = {
  app: ['web', 'db', 'api'],
  zone: ['a1', 'a2', 'b1'],
  'x.io/role': ['front', 'back'],
};
export const namespaceLabels: Readonly<Record<string, readonly string[]>> = {
  env: ['prod', 'dev'],
  team: ['a', 'b'],
};
export const serviceAccountLabels: Readonly<Record<string, readonly string[]>> = { trust: ['high', 'low'] };

/** Ports that packets go to; ranges in rules begin and end at them. */
export const ports = [53, 80, 81, 443, 5353, 8080, 8081, 9090] as const;
/** Ports that packets come from. */
export const sourcePorts = [1000, 1023, 1024, 40_000] as const;
/** What pods call their ports. */
export const portNames = ['http', 'dns', 'sig', 'admin'] as const;
/** Services that rules name; they have EndpointSlices. */
export const services = ['front', 'back'] as const;

/** Addresses of nobody's pod. */
export const outsiders: Readonly<Record<Family, readonly string[]>> = {
  4: ['203.0.113.7', '203.0.113.130', '198.51.100.9'],
  6: ['2001:db8::7', '2001:db8:1::7', '2001:db9::9'],
};

/** Networks that rules and network sets name, besides single addresses: pods' and outsiders', nested and touching. */
export const networks: Readonly<Record<Family, readonly string[]>> = {
  4: [
    '0.0.0.0/0',
    '0.0.0.0/1',
    '10.65.0.0/16',
    '10.65.0.0/30',
    '10.65.0.4/30',
    '10.65.0.0/25',
    '203.0.113.0/24',
    '203.0.113.0/25',
    '203.0.113.128/25',
    '198.51.0.0/16',
  ],
  6: ['::/0', 'fd65::/48', 'fd65::/126', 'fd65::4/126', '2001:db8::/32', '2001:db8:1::/48', '2001:db8::/31'],
};

/** Some labels of an alphabet, each key with this probability. */
export function someLabels(
  random: Random,
  alphabet: Readonly<Record<string, readonly string[]>>,
  probability = 0.7,
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(alphabet).flatMap(([key, values]) =>
      random.chance(probability) ? [[key, random.pick(values)] as const] : [],
    ),
  );
}
