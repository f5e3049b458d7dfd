/** Random histories of Services, with maps that are too small and writes that are refused, against what was said, looked at the obvious way. */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { BackendInfo, ServiceInfo } from '../../services.ts';
import { ServiceTable } from './service-table.ts';
import { backend, ServiceMapsTwin } from './twin-for-tests.ts';

const protocols = [6, 17];
const listOf = (prefix: string): fc.Arbitrary<readonly BackendInfo[]> =>
  fc
    .uniqueArray(
      fc.record({
        host: fc.integer({ min: 1, max: 9 }),
        state: fc.constantFrom('ready', 'ready', 'ready', 'ending', 'starting'),
        nodeName: fc.constantFrom('here', 'there'),
      }),
      { selector: ({ host }) => host, maxLength: 6 },
    )
    .map((hosts) =>
      hosts
        .sort((a, b) => a.host - b.host)
        .map(({ host, state, nodeName }) =>
          backend(`${prefix}${host}`, 8080, {
            nodeName,
            ready: state === 'ready',
            serving: state !== 'starting',
            terminating: state === 'ending',
          }),
        ),
    );
const services: fc.Arbitrary<ServiceInfo> = fc
  .record({
    host: fc.integer({ min: 1, max: 4 }),
    families: fc.constantFrom('4', '6', '46'),
    ports: fc.uniqueArray(
      fc.record({
        port: fc.constantFrom(53, 80),
        protocol: fc.constantFrom(...protocols),
        ipv4Backends: listOf('10.1.0.'),
        ipv6Backends: listOf('fd01::'),
      }),
      { selector: ({ port, protocol }) => port * 256 + protocol, minLength: 1, maxLength: 3 },
    ),
    internalTrafficPolicy: fc.constantFrom('cluster', 'cluster', 'local'),
  })
  .map(({ host, families, ports, internalTrafficPolicy }) => ({
    clusterIps: {
      ...(families.includes('4') ? { ipv4: `10.96.0.${host}` } : {}),
      ...(families.includes('6') ? { ipv6: `fd00::${host}` } : {}),
    },
    ports: ports.map((port) => ({ name: '', ...port })),
    internalTrafficPolicy,
  }));
const ids = fc.constantFrom('a', 'b', 'c', 'd', 'e');
const steps = fc.oneof(
  { weight: 6, arbitrary: fc.record({ type: fc.constant('say' as const), id: ids, service: services }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('end' as const), id: ids }) },
  { weight: 4, arbitrary: fc.record({ type: fc.constant('flush' as const), refused: fc.nat({ max: 8 }) }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('settle' as const), flushMeanwhile: fc.boolean() }) },
);
type Step = typeof steps extends fc.Arbitrary<infer T> ? T : never;

/** By place, who says what of it: the texts of its backends. */
function claimsOf(said: ReadonlyMap<string, ServiceInfo>): Map<string, Map<string, readonly string[]>> {
  const claims = new Map<string, Map<string, readonly string[]>>();
  for (const [id, { clusterIps, ports, internalTrafficPolicy }] of said) {
    for (const [address, list] of [
      [clusterIps.ipv4, 'ipv4Backends'],
      [clusterIps.ipv6, 'ipv6Backends'],
    ] as const) {
      if (address === undefined) continue;
      for (const port of ports) {
        const near = port[list].filter(({ nodeName }) => internalTrafficPolicy === 'cluster' || nodeName === 'here');
        const usable = near.some(({ ready }) => ready)
          ? near.filter(({ ready }) => ready)
          : near.filter(({ serving, terminating }) => serving && terminating);
        const place = `${address}:${port.port}/${port.protocol}`;
        const texts = usable.map((one) => `${one.address} ${one.port}`);
        claims.set(place, (claims.get(place) ?? new Map<string, readonly string[]>()).set(id, texts));
      }
    }
  }
  return claims;
}

class History {
  readonly #twin: ServiceMapsTwin;
  readonly #table: ServiceTable;
  /** As the last flush knew it. */
  #said = new Map<string, ServiceInfo>();
  readonly #news = new Map<string, ServiceInfo>();
  #wasRefused = false;

  constructor(frontends: number, backends: number) {
    this.#twin = new ServiceMapsTwin({
      tortie_front4: frontends,
      tortie_front6: frontends,
      tortie_back4: backends,
      tortie_back6: backends,
    });
    const { grace } = this.#twin;
    this.#table = new ServiceTable(this.#twin.mapOf, this.#twin.settingOf, { grace, pause: async () => undefined });
  }

  async run(history: readonly Step[]): Promise<void> {
    for (const step of history) {
      if (step.type === 'say') this.#say(step.id, step.service);
      else if (step.type === 'end') this.#end(step.id);
      else if (step.type === 'flush') await this.flush(step.refused);
      else await this.#settle(step.flushMeanwhile);
    }
    await this.flush(0);
    await this.#settle(false);
    await this.#check();
    const [one] = this.#said;
    for (const id of this.#said.keys()) this.#end(id);
    await this.flush(0);
    await this.#settle(false);
    expect(await this.#twin.contents()).toEqual({});
    expect(this.#table.figures).toEqual({ 4: { frontends: 0, backends: 0 }, 6: { frontends: 0, backends: 0 } });
    if (one === undefined) return;
    this.#say(...one);
    await this.flush(0);
    if (this.#fits(...one)) expect(this.#table.failed).toEqual([]);
  }

  /** `refused`: how many of the first eight writes are. */
  async flush(refused: number): Promise<void> {
    this.#said = new Map(this.#news);
    let left = 8;
    this.#wasRefused = false;
    this.#twin.refuse = () => {
      if (left-- > refused) return undefined;
      this.#wasRefused ||= refused > 0 && left >= 0;
      return refused > 0 && left >= 0 ? (['ENOMEM', 'EIO'] as const)[left % 2] : undefined;
    };
    await this.#table.flush('here');
    this.#twin.refuse = () => undefined;
    await this.#check();
  }

  #say(id: string, service: ServiceInfo): void {
    this.#news.set(id, service);
    this.#table.onUpdate({ type: 'serviceUpdate', id, service });
  }

  #end(id: string): void {
    this.#news.delete(id);
    this.#table.onUpdate({ type: 'serviceRemove', id });
  }

  async #settle(flushMeanwhile: boolean): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#twin.gate = promise;
    const settling = this.#table.settle();
    if (flushMeanwhile) await this.flush(0);
    resolve();
    await settling;
  }

  async #check(): Promise<void> {
    const contents = await this.#twin.contents();
    const claims = claimsOf(this.#said);
    const failed = new Set(this.#table.failed.map(({ object }) => object.slice('service '.length)));
    for (const place of new Set([...Object.keys(contents), ...claims.keys()])) {
      const found = contents[place];
      const said = [...(claims.get(place) ?? [])];
      const isRight =
        said.length === 0
          ? found === undefined
          : said.some(([, backends]) => found !== undefined && backends.join() === found.join());
      if (isRight) continue;
      const where = `${place} is ${found?.join()}, said ${JSON.stringify(said)}, failed ${[...failed].join()}`;
      // Someone must have been told. Who has gone may be, while it can't be removed.
      if (failed.size === 0 || (said.length > 0 && !said.some(([id]) => failed.has(id)))) throw new Error(where);
      // Even so nobody gets to one who isn't a backend, unless the kernel refused to be told.
      if (this.#wasRefused) continue;
      if (said.length === 0) throw new Error(where);
      if (!said.some(([, backends]) => found === undefined || found.every((one) => backends.includes(one))))
        throw new Error(where);
    }
  }

  #fits(id: string, service: ServiceInfo): boolean {
    const claims = [...claimsOf(new Map([[id, service]]))];
    return ([4, 6] as const).every((family) => {
      const mine = claims.filter(([place]) => place.startsWith('fd') === (family === 6));
      const needed = mine.flatMap(([, said]) => said.get(id) ?? []).length;
      const sizeOf = (name: string) => this.#twin.mapOf(`${name}${family}`).shape.maxEntries;
      return mine.length <= sizeOf('tortie_front') && needed <= sizeOf('tortie_back');
    });
  }
}

test('what was said is what programs find, what does not fit is named, and nobody gets to one who is no backend', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom([100, 200] as const, [4, 200] as const, [100, 12] as const, [5, 8] as const),
      fc.array(steps, { minLength: 5, maxLength: 40 }),
      async ([frontends, backends], history) => {
        await new History(frontends, backends).run(history);
      },
    ),
    { interruptAfterTimeLimit: 2000, numRuns: 1000 },
  );
});
