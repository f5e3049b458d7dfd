import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { NetConf } from './conf.ts';
import { cniCode, CniError } from './errors.ts';

/** Where Calico's node program writes the node's name. */
const NODENAME_FILE = '/var/lib/calico/nodename';

/** What the agent would know. */
export interface StandaloneSettings {
  readonly nodeName: string;
  /** The folder of the `files` datastore; undefined: there is none, which does for delegated IPAM and containers that are no pods. */
  readonly datastoreDir: string | undefined;
  readonly stateDir: string;
  readonly interfacePrefix: string;
}

/** From the conf's Calico keys, then from the agent's variables. Throws CNI errors. */
export function readStandaloneSettings(conf: Partial<NetConf>, env: NodeJS.ProcessEnv): StandaloneSettings {
  return {
    nodeName: nodeNameOf(conf, env),
    datastoreDir: datastoreDirOf(conf.datastore_type || env['TORTIE_DATASTORE'] || ''),
    stateDir: env['TORTIE_STATE_DIR'] || '/var/lib/tortie',
    interfacePrefix: env['FELIX_INTERFACEPREFIX']?.split(',')[0] || 'cali',
  };
}

/** Calico's order: nodename, its file, hostname, the host's name. A file that is named must be there, unless it is optional. */
function nodeNameOf(conf: Partial<NetConf>, env: NodeJS.ProcessEnv): string {
  if (conf.nodename) return conf.nodename;
  if (env['TORTIE_NODE_NAME']) return env['TORTIE_NODE_NAME'];
  try {
    const name = readFileSync(conf.nodename_file || NODENAME_FILE, 'utf8').trim();
    if (name !== '') return name;
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    if (!isMissing || (conf.nodename_file && conf.nodename_file_optional !== true)) {
      throw new CniError(
        cniCode.tryAgain,
        `can't read the node's name: ${(error as Error).message} (key nodename_file of the network configuration)`,
        {
          cause: error,
        },
      );
    }
  }
  return (conf.hostname || hostname()).toLowerCase();
}

function datastoreDirOf(text: string): string | undefined {
  if (text === '') return undefined;
  if (text.startsWith('files:/')) return text.slice('files:'.length);
  throw new CniError(
    cniCode.unsupportedField,
    `network configuration: datastore_type must be files:DIR, with an absolute DIR, for the standalone plugin (is ${JSON.stringify(text)})`,
  );
}
