// Prints the statuses of requests from several origins for each function code. 0 means that the request passes.
import { readFileSync } from 'node:fs';
import vm from 'node:vm';

const codes = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const result = {};
for (const { origins, code } of codes) {
    const context = vm.createContext({});
    vm.runInContext(`'use strict';\n${code}\nglobalThis.handler = handler;`, context);
    const statuses = [undefined, 'https://a.example', 'https://a.example.com', 'null'].map((origin) => {
        const headers = origin === undefined ? {} : { origin: { value: origin } };
        const request = { method: 'POST', uri: '/messaging/0/a/xhr', querystring: {}, headers, cookies: {} };
        return context.handler({ request }).statusCode ?? 0;
    });
    result[origins] = statuses;
}
console.log(JSON.stringify(result));
