import { askAgent } from '../admin/client.ts';
import { parseCommandLine, readRunDir } from '../config/bootstrap.ts';
import type { EndpointReport } from '../endpoints/endpoint-report.ts';
import { outputFlag, table, wantsJson, type Command } from './command.ts';

export const endpointsCommand: Command = {
  name: 'endpoints',
  usage: 'endpoints [-o json]',
  summary: "this node's endpoints: addresses, device, state, packet counters",
  async run(args, env, output) {
    const { flags } = parseCommandLine(args, outputFlag);
    const isJson = wantsJson(flags);
    const endpoints = (await askAgent(readRunDir(flags, env), '/endpoints')) as readonly EndpointReport[];
    if (isJson) {
      output.out(JSON.stringify(endpoints, null, 2));
      return 0;
    }
    const rows = endpoints.map(({ id, addresses, device, container, state, counters }) => [
      id,
      addresses.join(','),
      device,
      container.slice(0, 12),
      state,
      counters
        .flatMap(({ direction, verdicts }) =>
          Object.entries(verdicts).map(([verdict, { packets }]) => `${direction} ${verdict} ${packets}`),
        )
        .join(', '),
    ]);
    output.out(table(['ENDPOINT', 'ADDRESSES', 'DEVICE', 'CONTAINER', 'STATE', 'PACKETS'], rows));
    return 0;
  },
};
