// Runs the viewer-request function over the list of routes as CloudFront would. Also checks that the function uses only
// language features of CloudFront's runtime.
// Arguments: the list of routes, then a file with the function's code for each set of mounts.
//   node --expose-internals run.mjs ROUTES CODE
// where CODE is JSON: [{ mount: {…}, prefix: "/…", code: "…" }, …]. Prints the number of checks and
// the problems as JSON.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import vm from 'node:vm';

const [routes, codes] = process.argv.slice(2).map((file) => JSON.parse(readFileSync(file, 'utf8')));
const problems = [];

function load(code) {
    // A separate context has the language without Node's globals.
    const context = vm.createContext({});
    vm.runInContext(`'use strict';\n${code}\nglobalThis.handler = handler;`, context);
    return (event) => JSON.parse(vm.runInContext(`JSON.stringify(handler(${JSON.stringify(event)}))`, context));
}

function items(pairs) {
    return Object.fromEntries(pairs.map(([name, value]) => [name, { value }]));
}

function event(row, prefix, tag) {
    const headers = Object.entries(row.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value === '<etag>' ? tag : value]);
    const shown = headers.filter(([name]) => !['connection', 'upgrade', 'cookie'].includes(name));
    const cookies = headers.filter(([name]) => name === 'cookie').flatMap(([, value]) => value.split(/; */)).map((one) => one.split('='));
    return {
        version: '1.0',
        context: { distributionDomainName: 'd.cloudfront.net', distributionId: 'D', eventType: 'viewer-request', requestId: 'r' },
        viewer: { ip: '192.0.2.1' },
        request: {
            method: row.method,
            uri: prefix + row.path,
            querystring: items([['access_token', 'a%20b'], ['framing', 'mine'], ['t', '1']]),
            headers: items(shown),
            cookies: items(cookies),
        },
    };
}

function same(row, what, found, expected) {
    if (JSON.stringify(found) !== JSON.stringify(expected)) {
        problems.push(`${JSON.stringify(row)}: ${what} is ${JSON.stringify(found)}, not ${JSON.stringify(expected)}`);
    }
}

// Returns the headers that a client would see, by lower-case name.
function seen(response) {
    const headers = Object.fromEntries(Object.entries(response.headers ?? {}).map(([name, { value }]) => [name, value]));
    for (const [name, { value, attributes }] of Object.entries(response.cookies ?? {})) {
        headers['set-cookie'] = `${name}=${value}; ${attributes}`;
    }
    return headers;
}

function check(row, prefix, run) {
    const { expect } = row;
    const tag = Object.values(row.headers ?? {}).includes('<etag>')
        ? run(event({ ...row, headers: {} }, prefix)).headers.etag.value : undefined;
    const sent = event(row, prefix, tag);
    const result = run(sent);
    if (expect.status !== undefined) {
        const headers = seen(result);
        same(row, 'the status', result.statusCode, expect.status);
        for (const [name, value] of Object.entries(expect.headers ?? {})) {
            same(row, name, headers[name.toLowerCase()], value === '<etag>' ? tag : value);
        }
        for (const name of expect.present ?? []) {
            same(row, `the presence of ${name}`, name.toLowerCase() in headers, true);
        }
        for (const name of expect.absent ?? []) {
            same(row, name, headers[name.toLowerCase()], undefined);
        }
        if (expect.body !== undefined) {
            same(row, 'the body', result.body?.data ?? '', expect.body);
        }
        return;
    }
    same(row, 'a response', result.statusCode, undefined);
    same(row, 'headers', result.headers, sent.request.headers);
    const isWebSocket = expect.route === 'websocket' || expect.route === 'raw-websocket';
    if (!isWebSocket) {
        same(row, 'the request', result, sent.request);
        return;
    }
    same(row, 'the path', result.uri, '/');
    const query = Object.entries(result.querystring).map(([name, { value }]) => [name, value]);
    const framing = expect.route === 'websocket' ? [['framing', 'sockjs']] : [];
    same(row, 'the query', query, [['access_token', 'a%20b'], ['t', '1'], ...framing, ['mount', prefix]]);
}

// The language of the runtime 2.0 (CloudFront developer guide, "JavaScript runtime 2.0 features", read in November 2026):
// ES 5.1, const, let, arrow functions, template literals. It lacks loops over iterables, classes, destructuring, spread and
// the newer operators.
const SYNTAX = new Set([
    'Program', 'VariableDeclaration', 'VariableDeclarator', 'FunctionDeclaration', 'FunctionExpression',
    'ArrowFunctionExpression', 'BlockStatement', 'ExpressionStatement', 'ReturnStatement', 'IfStatement', 'ForStatement',
    'ForInStatement', 'WhileStatement', 'DoWhileStatement', 'SwitchStatement', 'SwitchCase', 'BreakStatement',
    'ContinueStatement', 'ThrowStatement', 'TryStatement', 'CatchClause', 'Identifier', 'Literal', 'TemplateLiteral',
    'TemplateElement', 'ArrayExpression', 'ObjectExpression', 'Property', 'MemberExpression', 'CallExpression',
    'NewExpression', 'UnaryExpression', 'UpdateExpression', 'BinaryExpression', 'LogicalExpression',
    'AssignmentExpression', 'ConditionalExpression', 'SequenceExpression', 'ThisExpression',
]);
const OPERATORS = new Set(['??', '??=', '||=', '&&=']);
// The members of built-in objects that the function uses. The guide lists each of them.
const METHODS = new Set([
    'call', 'exec', 'forEach', 'hasOwnProperty', 'indexOf', 'keys', 'length', 'now', 'prototype', 'slice', 'split', 'test',
    'toUTCString',
]);
const GLOBALS = new Set(['Date', 'Object', 'String']);

function language(code) {
    let acorn;
    try {
        acorn = createRequire(import.meta.url)('internal/deps/acorn/acorn/dist/acorn');
    } catch {
        problems.push('this Node has no built-in parser: start Node 18 or later with --expose-internals');
        return;
    }
    const declared = new Set();
    const used = [];
    const visit = (node, parent, key) => {
        const at = () => `line ${code.slice(0, node.start).split('\n').length}`;
        if (!SYNTAX.has(node.type)) {
            problems.push(`${at()}: the runtime has no ${node.type}`);
        }
        if (OPERATORS.has(node.operator) || node.optional || node.shorthand || node.computed && node.type === 'Property') {
            problems.push(`${at()}: the runtime has no such ${node.type}`);
        }
        if (node.async || node.generator) {
            problems.push(`${at()}: a handler of viewer requests must be a plain function`);
        }
        if (node.type === 'VariableDeclarator' || /Function/.test(node.type) || node.type === 'CatchClause') {
            for (const name of [node.id, node.param, ...(node.params ?? [])]) {
                if (name) {
                    declared.add(name.name);
                }
            }
        }
        if (node.type === 'Identifier') {
            const isName = (parent.type === 'MemberExpression' && key === 'property' && !parent.computed)
                || (parent.type === 'Property' && key === 'key');
            if (!isName) {
                used.push([node.name, at()]);
            }
        }
        // A method that is called on a value belongs to the language and not to our objects.
        if (node.type === 'CallExpression' && node.callee.type === 'MemberExpression' && !METHODS.has(node.callee.property.name)) {
            problems.push(`${at()}: ${node.callee.property.name} is not listed: if the runtime has it, add it to METHODS`);
        }
        for (const [key, child] of Object.entries(node)) {
            for (const one of [child].flat()) {
                if (one && typeof one.type === 'string') {
                    visit(one, node, key);
                }
            }
        }
    };
    visit(acorn.parse(code, { ecmaVersion: 'latest' }), {}, '');
    for (const [name, at] of used) {
        if (!declared.has(name) && !GLOBALS.has(name)) {
            problems.push(`${at}: ${name} is not listed: if the runtime has it, add it to GLOBALS`);
        }
    }
}

let checked = 0;
for (const row of routes.rows) {
    const mount = { websocket: true, legacy: false, cookies: false, ...row.mount };
    const found = codes.filter((one) => Object.keys(mount).every((name) => one.mount[name] === mount[name]));
    for (const { prefix, code } of found) {
        check(row, prefix, load(code));
        checked += 1;
    }
}
language(codes[0].code);
console.log(JSON.stringify({ checked, problems }));
