import { beforeEach, describe, expect, test } from '@jest/globals';
import { parseAs, type KindMap } from '#api/kinds.ts';
import { parseSelector } from '#api/selector/selector.ts';
import type { SetSpec } from '../model.ts';
import { SlicesByService } from '../services/slices-by-service.ts';
import type { NamedPort } from './address-source.ts';
import { SetStore, type SourceState } from './set-store.ts';

const selectorSpec = (text: string): SetSpec => ({ kind: 'selector', id: text, selector: parseSelector(text) });
const web = selectorSpec("app == 'web'");
const http: SetSpec = { kind: 'namedPort', id: 'http', selector: parseSelector('all()'), port: 'http', protocol: 6 };
const service = (withPorts: boolean): SetSpec => ({
  kind: 'service',
  id: `svc ${withPorts}`,
  namespace: 'default',
  name: 'svc',
  withPorts,
});
const source = (app: string, nets: readonly string[], ports: readonly NamedPort[] = []): SourceState => ({
  nets,
  ports,
  labels: { own: { app }, parents: [] },
});
const slice = (service: string, ...addresses: string[]): KindMap['EndpointSlice'] =>
  parseAs('EndpointSlice', {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 's', labels: { 'kubernetes.io/service-name': service } },
    addressType: 'IPv4',
    endpoints: [{ addresses }],
    ports: [{ port: 80 }, { port: 53, protocol: 'UDP' }, { protocol: 'TCP' }],
  }).object;

let slices: SlicesByService;
let store: SetStore;
beforeEach(() => {
  slices = new SlicesByService();
  store = new SetStore(slices);
});

describe('a set', () => {
  test('is announced whole, and then by its changes', () => {
    store.setSource('a', source('web', ['10.0.0.1/32']));
    store.acquire(web);
    expect(store.take()).toEqual({
      updates: [{ type: 'ipSetUpdate', id: web.id, setType: 'net', members: ['10.0.0.1/32'], about: 'app == "web"' }],
      removals: [],
    });
    store.setSource('b', source('web', ['10.0.0.2/32']));
    store.setSource('a', source('db', ['10.0.0.1/32']));
    expect(store.take().updates).toEqual([
      { type: 'ipSetDelta', id: web.id, added: ['10.0.0.2/32'], removed: ['10.0.0.1/32'] },
    ]);
  });

  test('keeps a member that two sources give until both have gone', () => {
    store.acquire(web);
    store.setSource('a', source('web', ['10.0.0.1/32']));
    store.setSource('b', source('web', ['10.0.0.1/32', '10.0.0.2/32']));
    store.take();
    store.removeSource('a');
    expect(store.take().updates).toEqual([]);
    store.removeSource('b');
    expect(store.take().updates).toMatchObject([{ added: [], removed: ['10.0.0.1/32', '10.0.0.2/32'] }]);
  });

  test('says nothing of a member that came and went, or went and came', () => {
    store.acquire(web);
    store.setSource('a', source('web', ['10.0.0.1/32']));
    store.take();
    store.setSource('b', source('web', ['10.0.0.2/32']));
    store.removeSource('b');
    store.removeSource('a');
    store.setSource('a', source('web', ['10.0.0.1/32']));
    expect(store.take()).toEqual({ updates: [], removals: [] });
  });

  test('that is let go and taken again in between stays, with what has changed meanwhile', () => {
    store.acquire(web);
    store.setSource('a', source('web', ['10.0.0.1/32']));
    store.take();
    store.release(web.id);
    store.setSource('a', source('web', ['10.0.0.9/32']));
    store.acquire(web);
    expect(store.take()).toEqual({
      updates: [{ type: 'ipSetDelta', id: web.id, added: ['10.0.0.9/32'], removed: ['10.0.0.1/32'] }],
      removals: [],
    });
    expect(store.count).toBe(1);
  });

  test('goes with its last user, and one that nobody was told of goes silently', () => {
    store.acquire(web);
    store.acquire(web);
    store.take();
    store.release(web.id);
    expect(store.take().removals).toEqual([]);
    store.release(web.id);
    store.acquire(http);
    store.release(http.id);
    expect(store.take()).toEqual({ updates: [], removals: [{ type: 'ipSetRemove', id: web.id }] });
    expect(store.count).toBe(0);
  });

  test('exchanges the addresses of an endpoint that gets others', () => {
    store.acquire(web);
    store.setSource('a', source('web', ['10.0.0.1/32', 'fd00::1/128']));
    store.take();
    store.setSource('a', source('web', ['10.0.0.3/32', 'fd00::1/128']));
    expect(store.take().updates).toMatchObject([{ added: ['10.0.0.3/32'], removed: ['10.0.0.1/32'] }]);
  });

  test('of a named port has each address with the port that is called so there', () => {
    const named = (port: number) => ({ name: 'http', protocol: 6, port });
    store.acquire(http);
    store.setSource(
      'a',
      source('web', ['10.0.0.1/32', 'fd00::1/128'], [named(80), { name: 'http', protocol: 17, port: 1 }]),
    );
    store.setSource('b', source('db', ['10.0.0.2/32'], [named(8080)]));
    expect(store.take().updates).toMatchObject([
      { setType: 'ipPort', members: ['10.0.0.1,6:80', 'fd00::1,6:80', '10.0.0.2,6:8080'] },
    ]);
    store.setSource('b', source('db', ['10.0.0.2/32'], [named(81)]));
    expect(store.take().updates).toMatchObject([{ added: ['10.0.0.2,6:81'], removed: ['10.0.0.2,6:8080'] }]);
  });

  test('of a Service follows its slices; a port without a number is left out', () => {
    store.acquire(service(true));
    store.acquire(service(false));
    const give = (object: KindMap['EndpointSlice'] | undefined) =>
      store.onEndpointSlice(slices.set('default/s', object));
    give(slice('svc', '10.0.0.1'));
    expect(store.take().updates).toMatchObject([
      { setType: 'ipPort', members: ['10.0.0.1,6:80', '10.0.0.1,17:53'] },
      { setType: 'net', members: ['10.0.0.1/32'] },
    ]);
    give(slice('svc', '10.0.0.1', '10.0.0.2'));
    expect(store.take().updates).toMatchObject([
      { added: ['10.0.0.2,6:80', '10.0.0.2,17:53'], removed: [] },
      { added: ['10.0.0.2/32'], removed: [] },
    ]);
    give(slice('other', '10.0.0.1'));
    expect(store.take().updates).toMatchObject([{ added: [] }, { removed: ['10.0.0.1/32', '10.0.0.2/32'] }]);
    give(slice('svc', '10.0.0.3'));
    give(undefined);
    expect(store.take().updates).toEqual([]);
  });
});
