"""Attention weights as pictures: an SVG of all heads or of one, and an HTML page to look through them.

Shapes: L layers, H heads, T tokens; weights (L, H, T, T) in [0, 1], a row says where a token looks.

One colour scale serves all maps: the depth of blue goes with the square root of the weight, so that the small weights
of long texts can be told from 0. Nothing is fetched: pictures and numbers lie inside the file.
"""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nlpkit.errors import UsageError
from nlpkit.report.grid import png
from nlpkit.store import atomic

SUFFIXES = (".svg", ".html")
WHITE, BLUE = np.array([255.0, 255.0, 255.0]), np.array([16.0, 62.0, 148.0])
INK, SOFT, LINE = "#1b1f24", "#687078", "#d9dde2"
CELL, GAP, LEFT, TOP = 92, 10, 64, 74  # of the grid: pixels of a map, between maps, before and above them
FONT = "font-family='system-ui,sans-serif'"
SCALE = (0.0, 0.05, 0.25, 0.5, 1.0)  # weights named at the key


def coloured(weights: np.ndarray) -> np.ndarray:
    """Weights (T, T) in [0, 1] as colours, uint8 (T, T, 3).

    >>> coloured(np.array([[0.0, 1.0]])).tolist()
    [[[255, 255, 255], [16, 62, 148]]]
    """
    depth = np.sqrt(np.clip(weights, 0.0, 1.0))[..., None]
    return np.round(WHITE + depth * (BLUE - WHITE)).astype(np.uint8)


def write_map(
    path: str | Path,
    weights: np.ndarray,
    tokens: Sequence[str],
    title: str,
    chosen: tuple[int, int] | None = None,
    *,
    force: bool = False,
) -> None:
    """Write an svg (all heads, or the one ``chosen`` as (layer, head), with its tokens) or an html page.

    ``weights`` are (L, H, T, T), or (1, 1, T, T) of the chosen head alone. Raises UsageError for another suffix or
    a file that is there already, unless ``force``.
    """
    path = check(path, force=force)
    if path.suffix.lower() == ".html":
        made = page(weights, tokens, title, chosen or (0, 0))
    elif chosen is None:
        made = svg_grid(weights, tokens, title)
    else:
        layer, head = chosen if len(weights) > 1 else (0, 0)
        name = f"layer {chosen[0]}, head {chosen[1]}"
        made = svg_head(weights[layer, head], tokens, title, name)
    atomic.write_bytes(path, made.encode())


def check(path: str | Path, *, force: bool = False) -> Path:
    """The path of a map that may be written: an .svg or .html that is not there yet, unless ``force``."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: attention maps are .svg or .html files; name it so")
    return atomic.refuse_existing(path, force)


def _image(weights: np.ndarray, x: float, y: float, side: float, label: str) -> str:
    """A map as an embedded PNG, one pixel a weight, in a thin frame; enlarged it keeps its edges."""
    sharp = 'style="image-rendering:pixelated" ' if len(weights) <= side else ""
    data = base64.b64encode(png(coloured(weights))).decode()
    return (
        f'<image x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" preserveAspectRatio="none" '
        f'{sharp}href="data:image/png;base64,{data}"><title>{html.escape(label)}</title>'
        f'</image><rect x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" fill="none" stroke="{LINE}"/>'
    )


def _text(x: float, y: float, words: str, *, size: float = 12, fill: str = SOFT, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{fill}" {FONT} {more}>{html.escape(words)}</text>'


def _key(x: float, y: float) -> str:
    """The colours with the weights they stand for."""
    parts = []
    for i, weight in enumerate(SCALE):
        red, green, blue = coloured(np.array([[weight]]))[0, 0]
        at = x + 46 * i
        parts.append(
            f'<rect x="{at:g}" y="{y:g}" width="14" height="14" fill="rgb({red},{green},{blue})" stroke="{LINE}"/>'
        )
        parts.append(_text(at + 18, y + 11.5, f"{weight:g}", size=11))
    return "".join(parts)


def _sheet(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img"><title>{html.escape(title)}</title>'
        f'<rect width="{width:g}" height="{height:g}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def short(text: str, most: int) -> str:
    """``text`` in at most ``most`` characters.

    >>> short("attention", 5)
    'atte…'
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def svg_grid(weights: np.ndarray, tokens: Sequence[str], title: str) -> str:
    """All maps: a row a layer, a column a head."""
    layers, heads, length, _ = weights.shape
    width = max(LEFT + heads * (CELL + GAP) + 10, 460)
    height = TOP + layers * (CELL + GAP) + 30
    room = int((width - LEFT - 10) / 7.2)  # characters of the title's line
    parts = [_text(LEFT, 22, short(title, room), size=14, fill=INK), _key(LEFT, 32)]
    parts += [
        _text(LEFT + h * (CELL + GAP) + CELL / 2, TOP - 8, f"head {h}", more='text-anchor="middle"')
        for h in range(heads)
    ]
    for layer in range(layers):
        y = TOP + layer * (CELL + GAP)
        parts.append(_text(LEFT - 10, y + CELL / 2 + 4, f"layer {layer}", more='text-anchor="end"'))
        for h in range(heads):
            x = LEFT + h * (CELL + GAP)
            parts.append(_image(weights[layer, h], x, y, CELL, f"layer {layer}, head {h}"))
    foot = f"{length} tokens: down, the token that looks; across, the token it looks at"
    parts.append(_text(LEFT, height - 12, foot, size=11))
    return _sheet(width, height, title, parts)


def svg_head(weights: np.ndarray, tokens: Sequence[str], title: str, name: str) -> str:
    """One map with its tokens on both axes, weights as tooltips where there are few."""
    length = len(tokens)
    cell = max(9.0, min(30.0, 640 / length))
    labels = [short(t, 14) for t in tokens]
    size = min(12.0, cell * 0.85)
    margin = 16 + 0.62 * size * max(map(len, labels))
    left, top = max(margin, 60), 68 + margin * 0.9
    side = cell * length
    width, height = max(left + side + 0.6 * margin + 12, 420), top + side + 34
    room = int((width - 24) / 7.4)
    parts = [
        _text(12, 22, short(title, room), size=14, fill=INK),
        _text(12, 42, name),
        _key(150, 31),
        _image(weights, left, top, side, name),
    ]
    for i, label in enumerate(labels):
        at = (i + 0.5) * cell
        parts.append(
            _text(left - 6, top + at + 0.35 * size, label, size=size, fill=INK, more='text-anchor="end"')
        )
        x, y = left + at + 0.3 * size, top - 6
        parts.append(_text(x, y, label, size=size, fill=INK, more=f'transform="rotate(-60 {x:g} {y:g})"'))
    if length <= 64:
        for i, row in enumerate(weights):
            for j, weight in enumerate(row):
                told = html.escape(f"{tokens[i]} → {tokens[j]}: {weight:.4f}")
                parts.append(
                    f'<rect x="{left + j * cell:g}" y="{top + i * cell:g}" width="{cell:g}" height="{cell:g}" '
                    f'fill-opacity="0"><title>{told}</title></rect>'
                )
    foot = "down: the token that looks; across: the token it looks at"
    parts.append(_text(left, height - 12, foot, size=11))
    return _sheet(width, height, title, parts)


STYLE = """
*{box-sizing:border-box}body{margin:0;background:#fbfbfa;color:#1b1f24;font:15px/1.5 system-ui,sans-serif}
main{max-width:1340px;margin:0 auto;padding:1.8rem 1.2rem 3rem}h1{font-size:1.15rem;margin:0 0 .3rem;
overflow-wrap:anywhere}p{color:#687078;margin:.2rem 0 1rem;font-size:.88rem}
#page{display:flex;gap:1.6rem;align-items:flex-start}#view{min-width:0}
@media(max-width:1000px){#page{flex-direction:column}}
#heads{display:grid;gap:3px;align-items:center;justify-items:center;color:#687078;font-size:.75rem}
#heads{--side:34px}#heads.many{--side:23px}
#heads canvas{width:var(--side);height:var(--side);border:1px solid #d9dde2;cursor:pointer;display:block}
#heads button{all:unset;display:block;line-height:0}#heads button:focus-visible{outline:2px solid #2563c9}
#heads .on canvas{outline:2px solid #d1602b;border-color:#d1602b}
#view{background:#fff;border:1px solid #d9dde2;border-radius:8px;padding:.8rem;overflow:auto;max-width:100%}
#said{min-height:1.6em;font-variant-numeric:tabular-nums;margin:0 0 .4rem}#map{display:block}
.key{display:inline-block;width:1em;height:1em;border:1px solid #d9dde2;vertical-align:-.15em;margin:0 .25em 0 .8em}
"""
SCRIPT = """
const D=JSON.parse(document.getElementById('data').textContent),T=D.tokens.length,B=atob(D.weights);
const at=(l,h,i,j)=>{const k=2*(((l*D.heads+h)*T+i)*T+j);return(B.charCodeAt(k)+256*B.charCodeAt(k+1))/65535};
const ink=w=>{const s=Math.sqrt(w);return D.white.map((c,i)=>Math.round(c+s*(D.blue[i]-c)))};
function paint(c,l,h){c.width=c.height=T;const x=c.getContext('2d'),p=x.createImageData(T,T);
 for(let i=0;i<T;i++)for(let j=0;j<T;j++){p.data.set([...ink(at(l,h,i,j)),255],4*(i*T+j))}x.putImageData(p,0,0)}
const el=id=>document.getElementById(id),heads=el('heads'),map=el('map'),said=el('said');
const small=document.createElement('canvas'),cell=Math.max(9,Math.min(28,Math.floor(620/T))),f=Math.min(13,.82*cell);
const name=t=>t.length>14?t.slice(0,13)+'\\u2026':t,pen=map.getContext('2d');
pen.font=f+'px system-ui,sans-serif';
const wide=Math.ceil(Math.max(...D.tokens.map(t=>pen.measureText(name(t)).width)))+10;
let L=D.layer,H=D.head;
function draw(hi,hj){const r=window.devicePixelRatio||1,n=T*cell+wide,m=Math.ceil(.9*wide)+6;
 const w=n+Math.ceil(.55*wide),y0=m,h=T*cell+m+2;
 map.width=w*r;map.height=h*r;map.style.width=w+'px';map.style.height=h+'px';
 pen.setTransform(r,0,0,r,0,0);pen.imageSmoothingEnabled=false;pen.drawImage(small,wide,y0,T*cell,T*cell);
 pen.strokeStyle='#d9dde2';pen.strokeRect(wide+.5,y0+.5,T*cell-1,T*cell-1);pen.textBaseline='middle';
 D.tokens.forEach((t,i)=>{const c=(i+.5)*cell;
  pen.font=(i===hi?'600 ':'')+f+'px system-ui,sans-serif';pen.fillStyle=i===hi?'#d1602b':'#1b1f24';
  pen.textAlign='right';pen.fillText(name(t),wide-5,y0+c);
  pen.font=(i===hj?'600 ':'')+f+'px system-ui,sans-serif';pen.fillStyle=i===hj?'#d1602b':'#1b1f24';
  pen.save();pen.translate(wide+c,y0-5);pen.rotate(-Math.PI/3);pen.textAlign='left';pen.fillText(name(t),0,0);
  pen.restore()});
 if(hi>=0){pen.strokeStyle='#d1602b';pen.lineWidth=1.5;
  pen.strokeRect(wide+hj*cell+.75,y0+hi*cell+.75,cell-1.5,cell-1.5);pen.lineWidth=1}
 map.dataset.x=wide;map.dataset.y=y0}
function tell(i,j){said.textContent=i<0?'layer '+(D.first[0]+L)+', head '+(D.first[1]+H)
 :D.tokens[i]+' ('+i+') looks at '+D.tokens[j]+' ('+j+'): '+at(L,H,i,j).toFixed(4)}
function choose(l,h){L=l;H=h;paint(small,l,h);draw(-1,-1);tell(-1,-1);
 document.querySelectorAll('#heads button').forEach(b=>b.classList.toggle('on',b.dataset.k===l+','+h))}
heads.classList.toggle('many',D.heads>8);
heads.style.gridTemplateColumns='auto '.repeat(D.heads+1);
const put=(tag,text)=>{const e=document.createElement(tag);e.textContent=text;heads.append(e);return e};
put('span','');for(let h=0;h<D.heads;h++)put('span',D.first[1]+h);
for(let l=0;l<D.layers;l++){put('span','layer '+(D.first[0]+l)).style.whiteSpace='nowrap';
 for(let h=0;h<D.heads;h++){const b=put('button','');
 b.dataset.k=l+','+h;b.title='layer '+(D.first[0]+l)+', head '+(D.first[1]+h);
 b.setAttribute('aria-label',b.title);b.onclick=()=>choose(l,h);
 const c=document.createElement('canvas');paint(c,l,h);b.append(c);if(T<34)c.style.imageRendering='pixelated'}}
map.onmousemove=e=>{const j=Math.floor((e.offsetX-map.dataset.x)/cell),i=Math.floor((e.offsetY-map.dataset.y)/cell);
 const ok=i>=0&&j>=0&&i<T&&j<T;draw(ok?i:-1,ok?j:-1);tell(ok?i:-1,ok?j:-1)};
map.onmouseleave=()=>{draw(-1,-1);tell(-1,-1)};
choose(L,H);
"""


def page(weights: np.ndarray, tokens: Sequence[str], title: str, chosen: tuple[int, int] = (0, 0)) -> str:
    """A page of all maps: a small one a head to choose by, a large one with its tokens, weights told on hovering.

    Weights lie in the page to 16 bits. Of one head alone, (1, 1, T, T), ``chosen`` says which it is.
    """
    layers, heads, _, _ = weights.shape
    alone = layers == heads == 1
    data = {
        "tokens": list(tokens),
        "layers": layers,
        "heads": heads,
        "first": list(chosen) if alone else [0, 0],
        "layer": 0 if alone else chosen[0],
        "head": 0 if alone else chosen[1],
        "white": WHITE.tolist(),
        "blue": BLUE.tolist(),
        "weights": base64.b64encode(
            np.round(np.clip(weights, 0, 1) * 65535).astype("<u2").tobytes()
        ).decode(),
    }
    inside = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # no token can end the script
    keys = "".join(
        f'<span class=key style="background:rgb({",".join(map(str, coloured(np.array([[w]]))[0, 0]))})"></span>{w:g}'
        for w in SCALE
    )
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(short(title, 80))}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{html.escape(title)}</h1><p>Rows: the token that looks; columns: the token it looks at. Weight:{keys}</p>"
        "<div id=page><div id=heads></div><div id=view><div id=said></div><canvas id=map></canvas></div></div></main>"
        f'<script type="application/json" id=data>{inside}</script><script>{SCRIPT}</script></body></html>\n'
    )
