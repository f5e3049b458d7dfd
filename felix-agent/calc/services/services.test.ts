import { beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseAs, type KindMap } from '#api/kinds.ts';
import { keyText } from '#api/meta.ts';
import type { ServiceInfo } from '#dataplanes/services.ts';
import { referenceServices } from './reference-for-tests.ts';
import { serviceInfo } from './service-info.ts';
import { Services } from './services.ts';
import { SlicesByService } from './slices-by-service.ts';
import * as world from './world-for-tests.ts';

const service = (name: string, spec: object = {}): KindMap['Service'] =>
  parseAs('Service', {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name },
    spec: { clusterIP: '10.96.0.1', ports: [{ port: 80 }], ...spec },
  }).object;

const slice = (name: string, of: string | undefined, ...addresses: string[]): KindMap['EndpointSlice'] =>
  parseAs('EndpointSlice', {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name, ...(of === undefined ? {} : { labels: { 'kubernetes.io/service-name': of } }) },
    addressType: 'IPv4',
    endpoints: addresses.map((address) => ({ addresses: [address] })),
    ports: [{ port: 8080 }],
  }).object;

/** What is tested, fed as calc feeds it, with the services that it looked at. */
class Bed {
  readonly looked: string[] = [];
  readonly #slices = new SlicesByService();
  readonly services = new Services('me', this.#slices, (object, slices, context) => {
    this.looked.push(keyText(object.metadata));
    return serviceInfo(object, slices, context);
  });
  readonly said = new Map<string, ServiceInfo>();

  service(object: KindMap['Service'], isPresent = true): void {
    this.services.onService(keyText(object.metadata), isPresent ? object : undefined);
  }

  slice(object: KindMap['EndpointSlice'], isPresent = true): void {
    this.services.onSlice(this.#slices.set(keyText(object.metadata), isPresent ? object : undefined));
  }

  /** Takes the changes; each must be one. */
  flush(): readonly string[] {
    const { removals, additions } = this.services.take();
    for (const { id } of removals as readonly { readonly id: string }[]) expect(this.said.delete(id)).toBe(true);
    const updates: string[] = [];
    for (const update of additions) {
      if (update.type !== 'serviceUpdate') throw new Error(`${update.type} is no addition`);
      expect(this.said.get(update.id)).not.toEqual(update.service);
      this.said.set(update.id, update.service);
      updates.push(update.id);
    }
    return updates;
  }

  backends(name: string): readonly string[] | undefined {
    return this.said.get(`default/${name}`)?.ports[0]?.ipv4Backends.map(({ address }) => address);
  }
}

let bed: Bed;
beforeEach(() => {
  bed = new Bed();
});

describe('services, as things come and go', () => {
  test('a slice waits for its service, and stays when that comes back', () => {
    bed.slice(slice('s', 'web', '10.0.0.1'));
    expect(bed.flush()).toEqual([]);
    bed.service(service('web'));
    expect(bed.flush()).toEqual(['default/web']);
    expect(bed.backends('web')).toEqual(['10.0.0.1']);
    bed.service(service('web'), false);
    bed.flush();
    expect(bed.backends('web')).toBeUndefined();
    bed.service(service('web'));
    bed.flush();
    expect(bed.backends('web')).toEqual(['10.0.0.1']);
  });

  test('a slice that is given to another service leaves the first', () => {
    for (const name of ['web', 'db']) bed.service(service(name));
    bed.slice(slice('s', 'web', '10.0.0.1'));
    bed.flush();
    bed.slice(slice('s', 'db', '10.0.0.1'));
    bed.flush();
    expect([bed.backends('web'), bed.backends('db')]).toEqual([[], ['10.0.0.1']]);
    bed.slice(slice('s', undefined, '10.0.0.1'));
    bed.flush();
    expect([bed.backends('web'), bed.backends('db')]).toEqual([[], []]);
  });

  test('an endpoint that moves from one slice to another is never missing, and no change is none', () => {
    bed.service(service('web'));
    bed.slice(slice('a', 'web', '10.0.0.1', '10.0.0.2'));
    bed.flush();
    bed.slice(slice('b', 'web', '10.0.0.2'));
    expect(bed.flush()).toEqual([]);
    bed.slice(slice('a', 'web', '10.0.0.1'));
    expect(bed.flush()).toEqual([]);
    expect(bed.backends('web')).toEqual(['10.0.0.1', '10.0.0.2']);
  });

  test('a service that becomes headless is taken back', () => {
    bed.service(service('web'));
    bed.flush();
    bed.service(service('web', { clusterIP: 'None' }));
    bed.flush();
    expect([...bed.said.keys()]).toEqual([]);
  });

  test("a slice's change looks at its service only, once however often it changes", () => {
    for (let index = 0; index < 100; index++) {
      bed.service(service(`web-${index}`));
      bed.slice(slice(`s-${index}`, `web-${index}`, '10.0.0.1'));
    }
    bed.flush();
    expect(bed.looked).toHaveLength(100);
    bed.looked.length = 0;
    bed.slice(slice('s-7', 'web-7', '10.0.0.2'));
    bed.slice(slice('s-7', 'web-7', '10.0.0.3'));
    expect(bed.flush()).toEqual(['default/web-7']);
    bed.slice(slice('s-8', 'web-9', '10.0.0.4'));
    expect(bed.flush()).toEqual(['default/web-8', 'default/web-9']);
    bed.slice(slice('lonely', 'nobody', '10.0.0.5'));
    expect(bed.flush()).toEqual([]);
    expect(bed.looked).toEqual(['default/web-7', 'default/web-8', 'default/web-9']);
  });

  test('problems stand by their service until they are gone, and are asked for when they change', () => {
    const problems = () => Object.fromEntries(bed.services.problems());
    bed.service(service('web'));
    bed.slice(slice('s', 'web', 'x', '10.0.0.1'));
    expect(bed.services.takeProblemsChanged()).toBe(false);
    bed.flush();
    expect(bed.services.takeProblemsChanged()).toBe(true);
    expect(problems()).toEqual({ 'Service default/web': ['EndpointSlice s: x is no IPv4 address'] });
    bed.slice(slice('s', 'web', 'x', '10.0.0.2'));
    bed.flush();
    expect(bed.services.takeProblemsChanged()).toBe(false);
    bed.service(service('web'), false);
    bed.flush();
    expect(bed.services.takeProblemsChanged()).toBe(true);
    expect(problems()).toEqual({});
  });
});

/** `SOAK_SECONDS` makes it long. */
const soakMs = Number(process.env['SOAK_SECONDS'] ?? 0) * 1000;
const bounds =
  soakMs > 0
    ? { numRuns: 10_000_000, interruptAfterTimeLimit: soakMs }
    : { numRuns: 2_000, interruptAfterTimeLimit: 2_000 };

test(
  'Services and slices in any order, at once or one by one, reach what all of them come to',
  () => {
    const object = fc.oneof(world.services, { weight: 3, arbitrary: world.slices });
    const step = fc.record({ object, isPresent: fc.constantFrom(true, true, true, false), flush: fc.boolean() });
    const give = (target: Bed, thing: KindMap['Service' | 'EndpointSlice'], isPresent: boolean) =>
      thing.kind === 'Service' ? target.service(thing, isPresent) : target.slice(thing, isPresent);
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40, size: 'max' }), fc.infiniteStream(fc.nat()), (steps, random) => {
        const live = new Bed();
        const last = new Map<string, KindMap['Service' | 'EndpointSlice']>();
        for (const { object: thing, isPresent, flush } of steps) {
          give(live, thing, isPresent);
          if (isPresent) last.set(`${thing.kind} ${keyText(thing.metadata)}`, thing);
          else last.delete(`${thing.kind} ${keyText(thing.metadata)}`);
          if (flush) live.flush();
        }
        live.flush();
        const present = [...last.values()];
        const expected = referenceServices(
          {
            Service: present.filter((thing) => thing.kind === 'Service'),
            EndpointSlice: present.filter((thing) => thing.kind === 'EndpointSlice'),
          },
          'me',
        );
        expect(Object.fromEntries(live.said)).toEqual(expected);

        const fresh = new Bed();
        const shuffled = present
          .map((thing) => ({ thing, at: random.next().value ?? 0 }))
          .toSorted((a, b) => a.at - b.at);
        for (const { thing } of shuffled) give(fresh, thing, true);
        fresh.flush();
        expect(Object.fromEntries(fresh.said)).toEqual(expected);
        expect(Object.fromEntries(fresh.services.problems())).toEqual(Object.fromEntries(live.services.problems()));
      }),
      bounds,
    );
  },
  soakMs + 30_000,
);
