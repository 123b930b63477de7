//! Stand-in: derives for a struct whose fields are all `pub NAME: Option<f64>`.

use proc_macro::{TokenStream, TokenTree};

fn parts(input: TokenStream) -> (String, Vec<String>) {
    let tokens: Vec<TokenTree> = input.into_iter().collect();
    let at = tokens.iter().position(|t| t.to_string() == "struct").expect("a struct");
    let TokenTree::Group(body) = tokens.last().expect("fields") else { panic!("fields in braces") };
    let inside: Vec<String> = body.stream().into_iter().map(|t| t.to_string()).collect();
    let fields = inside
        .windows(3)
        .filter(|w| w[1] == ":" && w[2] == "Option" && w[0] != ":")
        .map(|w| w[0].clone())
        .collect();
    (tokens[at + 1].to_string(), fields)
}

#[proc_macro_derive(Serialize, attributes(serde))]
pub fn serialize(input: TokenStream) -> TokenStream {
    format!("impl serde::Serialize for {} {{}}", parts(input).0).parse().unwrap()
}

#[proc_macro_derive(Deserialize, attributes(serde))]
pub fn deserialize(input: TokenStream) -> TokenStream {
    let (name, fields) = parts(input);
    let read: String = fields.iter().map(|f| format!("{f}: number(\"{f}\")?,")).collect();
    format!(
        "impl serde::Deserialize for {name} {{
            fn from_numbers(number: &dyn Fn(&str) -> Result<Option<f64>, String>) -> Result<Self, String> {{
                Ok({name} {{ {read} }})
            }}
        }}"
    )
    .parse()
    .unwrap()
}
